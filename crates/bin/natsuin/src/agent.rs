//! A user agent for the demonstration, for load and for test stacks: keeps cookies, follows redirects, fills in the login form,
//! and hands the SIC page's part to a signer's side of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use core_types::{Clock, Digest32, SecretBytes};
use csc_types::SecretText;
use reqwest::header::{COOKIE, LOCATION, REFRESH, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response, Url};
use sic_core::Totp;
use web_ui::Lang;

use crate::stack::{DevSigner, Factors, Sic, Stack};

/// Most redirects in a row.
const HOPS: usize = 20;

/// A browser with a person in front of it. Clones share the cookies of the moment.
#[derive(Clone)]
pub struct Agent {
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// Whose approval page it knows; without one it approves nothing.
    sic: Option<Sic>,
    lang: Lang,
    cookies: BTreeMap<(String, String), String>,
}

/// How a person logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Login name.
    pub user: String,
    /// Password.
    pub password: SecretText,
    /// Seed of the login's one-time codes, base32, if there are any.
    pub totp_secret: Option<SecretBytes>,
}

impl From<&DevSigner> for Login {
    fn from(signer: &DevSigner) -> Self {
        Self {
            user: signer.user.clone(),
            password: SecretText::new(signer.password.clone()),
            totp_secret: Some(SecretBytes::from(signer.login_totp_secret.clone())),
        }
    }
}

/// A cookie that is kept: site, name, value.
type Kept = (String, String, String);

impl Agent {
    /// A browser without cookies, of somebody who reads Japanese.
    pub fn new(stack: &Stack) -> Self {
        Self::with(stack.sic())
    }

    /// A browser without cookies that reaches the service with the client of `sic`.
    pub fn with(sic: Sic) -> Self {
        Self {
            sic: Some(sic.clone()),
            ..Self::without_approval(sic.http, sic.clock)
        }
    }

    /// A browser without cookies that logs in and approves nothing.
    pub fn without_approval(http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            http,
            clock,
            sic: None,
            lang: Lang::Ja,
            cookies: BTreeMap::new(),
        }
    }

    /// The same browser of somebody who reads `lang`.
    #[must_use]
    pub fn reading(self, lang: Lang) -> Self {
        Self { lang, ..self }
    }

    /// The same browser with connections of its own.
    #[must_use]
    pub fn over(self, http: reqwest::Client) -> Self {
        let sic = self.sic.map(|sic| Sic {
            http: http.clone(),
            ..sic
        });
        Self { sic, http, ..self }
    }

    /// Values of the cookies of the moment, of all sites.
    pub fn cookies(&self) -> Vec<String> {
        self.cookies.values().cloned().collect()
    }

    /// The cookies of the moment, for a later browser of the same person. They are a login: whoever has them is that person there.
    pub fn kept(&self) -> SecretBytes {
        let all = self.cookies.iter();
        let all: Vec<Kept> = all
            .map(|((site, name), value)| (site.clone(), name.clone(), value.clone()))
            .collect();
        SecretBytes::new(serde_json::to_vec(&all).unwrap_or_default())
    }

    /// The same browser with the cookies of [`Agent::kept`] and no others.
    ///
    /// # Errors
    /// When these aren't such cookies.
    pub fn with_cookies(self, kept: &SecretBytes) -> Result<Self> {
        let all: Vec<Kept> = serde_json::from_slice(kept.expose())
            .map_err(|_| anyhow::anyhow!("these aren't cookies of a kept login"))?;
        let cookies = all
            .into_iter()
            .map(|(site, name, value)| ((site, name), value));
        Ok(Self {
            cookies: cookies.collect(),
            ..self
        })
    }

    /// One exchange, with cookies.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(&mut self, url: &Url, request: RequestBuilder) -> Result<Response> {
        let site = site(url);
        let ours = self.cookies.iter().filter(|((s, _), _)| *s == site);
        let header: Vec<String> = ours
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let request = if header.is_empty() {
            request
        } else {
            request.header(COOKIE, header.join("; "))
        };
        let answer = request
            .send()
            .await
            .with_context(|| format!("{site} doesn't answer"))?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let text = cookie.to_str().unwrap_or_default();
            let pair = text.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies
                    .insert((site.clone(), name.to_owned()), value.to_owned());
            }
        }
        Ok(answer)
    }

    /// A request of this browser.
    pub fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        // Browsers say where a request comes from; the pages' defences against forged requests read it.
        self.http
            .request(method, url.clone())
            .header("sec-fetch-site", "same-origin")
            .header("accept-language", self.lang.tag())
    }

    /// Visits `url` as the signer until a page of `home` comes, logging in and approving on the way.
    ///
    /// # Errors
    /// When a page can't be dealt with or the approval isn't accepted.
    pub async fn visit(
        &mut self,
        url: &str,
        home: &str,
        signer: &DevSigner,
        factors: Factors<'_>,
    ) -> Result<()> {
        self.go(
            url,
            (&Login::from(signer), None),
            Some(factors),
            |next, answered| answered && next.as_str().starts_with(home),
        )
        .await
        .map(drop)
    }

    /// Goes on from `url` as the signer until sent to an address that starts with `target`, which isn't visited.
    ///
    /// # Errors
    /// As [`Agent::visit`].
    pub async fn until(
        &mut self,
        url: &str,
        target: &str,
        signer: &DevSigner,
        factors: Factors<'_>,
    ) -> Result<Url> {
        self.go(
            url,
            (&Login::from(signer), None),
            Some(factors),
            |next, answered| !answered && next.as_str().starts_with(target),
        )
        .await
    }

    /// Goes on from `url`, logging in and agreeing, but approving nothing, until sent to an address that starts with one of
    /// `targets`, which isn't visited. Forms are filled in at the origin of `begun` alone: whoever leads elsewhere gets no
    /// password.
    ///
    /// # Errors
    /// When a page can't be dealt with, or another origin answers with one.
    pub async fn log_in(
        &mut self,
        url: &str,
        begun: &Url,
        targets: &[&str],
        login: &Login,
    ) -> Result<Url> {
        let at = Some(begun);
        self.go(url, (login, at), None, |next, answered| {
            !answered
                && targets
                    .iter()
                    .any(|target| next.as_str().starts_with(target))
        })
        .await
    }

    /// `arrived` is asked before an address is visited, and again when it answered with a page. The address beside `login` has
    /// the one origin whose forms are filled in; without one, as in front of a stack of this process, every origin's are.
    async fn go(
        &mut self,
        url: &str,
        (login, begun): (&Login, Option<&Url>),
        mut factors: Option<Factors<'_>>,
        arrived: impl Fn(&Url, bool) -> bool,
    ) -> Result<Url> {
        let mut next = Url::parse(url)?;
        for _ in 0..HOPS {
            if arrived(&next, false) {
                return Ok(next);
            }
            if let (Some((sic, rid)), Some(factors)) = (self.approval(&next), &mut factors) {
                let rid =
                    Digest32::parse(&rid).context("the approval page's address has no request")?;
                let goes_on = sic.approve(rid, factors.reborrow()).await?;
                next = Url::parse(&goes_on)?;
                continue;
            }
            let request = self.request(Method::GET, &next);
            let answer = self.send(&next, request).await?;
            next = match location(&next, &answer)? {
                Some(to) => to,
                None if answer.status().is_success() && arrived(&next, true) => return Ok(next),
                None if begun.is_some_and(|begun| begun.origin() != next.origin()) => {
                    bail!(
                        "{} answers with a page and isn't where this began",
                        site(&next)
                    )
                }
                None => self.fill_in(&next, answer, login).await?,
            };
        }
        bail!("too many redirects")
    }

    fn approval(&self, url: &Url) -> Option<(&Sic, String)> {
        let sic = self.sic.as_ref()?;
        let there = url.as_str().starts_with(&sic.origin) && url.path() == "/a";
        there.then(|| Some((sic, url.fragment()?.to_owned())))?
    }

    /// Sends the login form or the consent form of the page.
    async fn fill_in(&mut self, page: &Url, answer: Response, login: &Login) -> Result<Url> {
        let status = answer.status();
        let html = answer.text().await?;
        let hidden = |name: &str| input(&html, name);
        let token = hidden("token")
            .with_context(|| format!("{} answered {status} without a form", page.path()))?;
        let mut fields = vec![
            ("token", token),
            ("flow", hidden("flow").unwrap_or_default()),
        ];
        let action = if html.contains("name=\"password\"") {
            fields.push(("next", hidden("next").unwrap_or_default()));
            fields.push(("name", login.user.clone()));
            fields.push(("password", login.password.expose().to_owned()));
            if let Some(seed) = &login.totp_secret {
                let totp = Totp::from_base32(seed)
                    .map_err(|_| anyhow::anyhow!("the login seed can't be read"))?;
                let code = totp.code(self.clock.now());
                fields.push(("code", String::from_utf8_lossy(code.expose()).into_owned()));
            }
            "/login"
        } else {
            fields.push(("answer", "yes".to_owned()));
            "/oauth2/agree"
        };
        let to = page.join(action)?;
        let origin = page.origin().ascii_serialization();
        let request = self
            .request(Method::POST, &to)
            .header("origin", origin)
            .form(&fields);
        let answer = self.send(&to, request).await?;
        let status = answer.status();
        match location(&to, &answer)? {
            Some(next) => Ok(next),
            None => bail!("{action} answered {status} and leads nowhere"),
        }
    }
}

fn site(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Where an answer sends the browser: a redirect, or a page that goes on by itself.
fn location(from: &Url, answer: &Response) -> Result<Option<Url>> {
    let header = |name| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if answer.status().is_redirection() {
        return Ok(Some(
            from.join(header(LOCATION).context("a redirect leads nowhere")?)?,
        ));
    }
    let goes_on = header(REFRESH).and_then(|text| text.split_once("url="));
    Ok(goes_on.map(|(_, to)| from.join(to)).transpose()?)
}

/// Value of the input with this name.
fn input(html: &str, name: &str) -> Option<String> {
    let at = html.find(&format!("name=\"{name}\" value=\""))?;
    let rest = &html[at..];
    let value = rest.split("value=\"").nth(1)?.split('"').next()?;
    Some(value.replace("&amp;", "&").replace("&#38;", "&"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::extract::{RawQuery, State};
    use axum::response::{Html, Redirect};
    use axum::routing::{get, post};
    use core_types::clock::SystemClock;
    use service_kit::http::{HttpOptions, client};

    use super::*;

    const BACK: &str = "http://localhost/callback?code=1";

    type Posted = Arc<Mutex<Vec<String>>>;

    /// A site that leads wherever it is told to, with a login form. Returns its origin.
    async fn serve(posted: &Posted) -> String {
        let page = "<form><input name=\"token\" value=\"t\"><input name=\"password\"></form>";
        let posts = |State(posted): State<Posted>, form: String| async move {
            posted.lock().unwrap().push(form);
            Redirect::to(BACK)
        };
        let app = Router::new()
            .route(
                "/to",
                get(|RawQuery(to): RawQuery| async move { Redirect::to(&to.unwrap()) }),
            )
            .route("/page", get(move || async move { Html(page) }))
            .route("/login", post(posts))
            .with_state(posted.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, app).await });
        origin
    }

    #[tokio::test]
    async fn a_password_goes_nowhere_but_where_the_login_began() {
        let posted = Posted::default();
        let (ours, other) = (serve(&posted).await, serve(&posted).await);
        let http = client(&HttpOptions::default()).unwrap();
        let mut agent = Agent::without_approval(http, Arc::new(SystemClock));
        let login = Login {
            user: "hanako".to_owned(),
            password: SecretText::new("a password".to_owned()),
            totp_secret: None,
        };
        let begun = Url::parse(&ours).unwrap();
        let led = format!("{ours}/to?{other}/page");
        for start in [led, format!("{other}/page")] {
            let refused = agent.log_in(&start, &begun, &[BACK], &login).await;
            let told = refused.unwrap_err().to_string();
            assert!(told.contains(&other), "{told}");
            assert_eq!(*posted.lock().unwrap(), Vec::<String>::new());
        }
        // Whoever comes back from elsewhere logs in.
        let around = format!("{ours}/to?{other}/to?{ours}/page");
        let back = agent.log_in(&around, &begun, &[BACK], &login).await;
        assert_eq!(back.unwrap().as_str(), BACK);
        let sent = posted.lock().unwrap().concat();
        assert!(sent.contains("password=a+password"), "{sent}");
    }
}
