//! Jobs with real files, certificates and time-stamps.

#![expect(clippy::unwrap_used, reason = "test helpers may fail loudly")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, HashAlg, SigAlg};
use csc_client::HttpOptions;
use dev_ca::{DevCa, Urls};
use pdf_update::{Builder, Object, Pdf, Update};
use pki::asn1::{self, SEQUENCE, Tlv, context_constructed};
use pki::fetch::{Fetch as _, Fetching};
use pki::tsp::MAX_REPLY;
use signing_job::{
    HttpFetch, JobError, Names, Request, Signed, TimeSource, TimeStamping, Trust, Verdict, check,
    look, prepare,
};

const ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha384);

struct Bench {
    dir: tempfile::TempDir,
    ca: Arc<DevCa>,
    key: EcdsaKeyPair,
    chain: Vec<Vec<u8>>,
    fetch: HttpFetch,
    tsa: String,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
        let urls = Urls::under(&base);
        let ca = DevCa::open(
            &dir.path().join("ca"),
            urls,
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
        );
        let ca = Arc::new(ca.unwrap());
        let app = dev_ca::routes::public(ca.clone());
        tokio::spawn(async move { axum::serve(socket, app).await });
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "髙橋 花子")]).unwrap();
        let spki = key.public_key().as_der().unwrap();
        let chain = ca.issue_for_key(spki.as_ref(), &subject, 30).unwrap();
        let chain = chain.iter().map(|c| c.der().to_vec()).collect();
        let fetch = HttpFetch::new(HttpOptions::default().build().unwrap(), true);
        Self {
            dir,
            ca,
            key,
            chain,
            fetch,
            tsa: format!("{base}/tsa"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn request(&self, name: &str, time_stamp: bool) -> Request {
        let input = self.path(&format!("{name}.pdf"));
        std::fs::write(&input, pdf()).unwrap();
        Request {
            input,
            output: self.path(&format!("{name}-signed.pdf")),
            chain: self.chain.clone(),
            alg: ALG,
            signing_time: SystemClock.now(),
            time_stamp,
            reason: None,
            location: None,
            field_name: None,
        }
    }

    fn sign(&self, hash: &[u8]) -> Vec<u8> {
        let digest = Digest::import_less_safe(hash, ALG.hash().aws()).unwrap();
        self.key.sign_digest(&digest).unwrap().as_ref().to_vec()
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(&self.ca.root().pem()).unwrap()
    }
}

fn pdf() -> Vec<u8> {
    let mut file = Builder::new("1.7");
    let pages = file.reserve();
    let page = file.add_object(format!(
        "<</Type /Page /Parent {} 0 R /MediaBox [0 0 595 842]>>",
        pages.num
    ));
    file.set_object(
        pages,
        format!("<</Type /Pages /Kids [{} 0 R] /Count 1>>", page.num),
    );
    let root = file.add_object(format!("<</Type /Catalog /Pages {} 0 R>>", pages.num));
    file.finish(root, None, [7; 16]).unwrap()
}

fn part(output: &Path) -> PathBuf {
    PathBuf::from(format!("{}.part", output.display()))
}

#[tokio::test]
async fn several_files_are_signed_time_stamped_and_checked() {
    let bench = Bench::new().await;
    let trust = bench.trust();
    let requests = ["a", "b"].map(|name| bench.request(name, true));
    let prepared = requests.each_ref().map(|r| prepare(r).unwrap());
    assert_ne!(
        bench.sign(prepared[0].hash_to_sign()),
        bench.sign(prepared[1].hash_to_sign())
    );
    for (request, job) in requests.iter().zip(prepared) {
        assert!(
            !request.output.exists(),
            "no output under its name before it is finished"
        );
        let stamping = TimeStamping {
            fetch: &bench.fetch,
            url: &bench.tsa,
            anchors: trust.tsa_anchors(),
            random: &SystemRandom,
        };
        let signed = job
            .finish(&bench.sign(job.hash_to_sign()).into(), Some(&stamping))
            .await
            .unwrap();
        drop(job);
        assert!(!part(&request.output).exists());
        assert!(std::fs::read(&signed.path).unwrap().starts_with(&pdf()));
        let checked = check(&signed.path, &trust, &bench.fetch, SystemClock.now())
            .await
            .unwrap();
        assert_eq!(
            checked.report.verdict,
            Verdict::Passed,
            "{:?}",
            checked.report
        );
        let names = Names {
            object: "a.pdf".to_owned(),
            document: "b.pdf".to_owned(),
        };
        let outcome = checked.outcome(&names, &signed, true).unwrap();
        assert_eq!(
            (outcome.signer_name.as_str(), outcome.signer_id),
            ("髙橋 花子", None)
        );
        assert_eq!(outcome.time_source, TimeSource::Timestamp);
        assert_eq!(look(&signed.path).unwrap().signatures, 1);
    }
}

#[tokio::test]
async fn the_result_is_about_the_new_signature_and_no_older_one_of_the_same_field() {
    let bench = Bench::new().await;
    // Somebody else signed, and the field was emptied again.
    let mut older = bench.request("a", false);
    let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "別人 太郎")]).unwrap();
    let spki = bench.key.public_key().as_der().unwrap();
    let chain = bench.ca.issue_for_key(spki.as_ref(), &subject, 30).unwrap();
    older.chain = chain.iter().map(|c| c.der().to_vec()).collect();
    let job = prepare(&older).unwrap();
    let value = bench.sign(job.hash_to_sign());
    let first = job.finish(&value.into(), None).await.unwrap();
    let mut file = std::fs::read(&first.path).unwrap();
    let source = file.clone();
    let pdf = Pdf::open(&source).unwrap();
    let form = pdf.lookup(&pdf.catalog().unwrap(), "AcroForm").unwrap();
    let list = pdf.lookup(form.unwrap().as_dict().unwrap(), "Fields");
    let id = list.unwrap().unwrap().as_array().unwrap()[0]
        .as_ref()
        .unwrap();
    let mut update = Update::new(&pdf);
    let field = pdf.get(id).unwrap().as_dict().unwrap().clone();
    update.put(id, &Object::Dict(field.with("V", Object::Null)));
    file.extend_from_slice(&update.finish([1; 16]).unwrap().bytes);

    let request = bench.request("b", false);
    std::fs::write(&request.input, file).unwrap();
    let job = prepare(&request).unwrap();
    let value = bench.sign(job.hash_to_sign());
    let signed = job.finish(&value.into(), None).await.unwrap();
    assert_eq!(signed.field_name, first.field_name);
    let checked = check(
        &signed.path,
        &bench.trust(),
        &bench.fetch,
        SystemClock.now(),
    )
    .await
    .unwrap();
    assert_eq!(checked.report.signatures.len(), 2);
    let names = Names {
        object: "b.pdf".to_owned(),
        document: "b-signed.pdf".to_owned(),
    };
    let outcome = checked.outcome(&names, &signed, true).unwrap();
    assert_eq!(outcome.signer_name, "髙橋 花子");
    assert_eq!(outcome.verification_result.verdict, Verdict::Passed);
    let elsewhere = Signed {
        field_name: "Other".to_owned(),
        ..signed.clone()
    };
    assert!(checked.outcome(&names, &elsewhere, true).is_none());
}

/// A time-stamping authority that sends certificates nobody needs, up to the longest answer that is read.
struct Talkative<'b>(&'b Bench);

impl Talkative<'_> {
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        const WHAT: &str = "a time-stamp";
        let reply = self.0.ca.time_stamp(query);
        let padded = |times: usize| {
            let mut response = Tlv::single(&reply, WHAT)?.open(SEQUENCE, WHAT)?;
            let status = response.next(WHAT)?;
            let mut token = response.sequence(WHAT)?;
            let kind = token.next(WHAT)?;
            let signed = Tlv::single(token.next(WHAT)?.value, WHAT)?;
            let mut parts = Vec::new();
            for part in signed.open(SEQUENCE, WHAT)?.all(WHAT)? {
                if part.tag == context_constructed(0) {
                    let more = self.0.chain.concat().repeat(times);
                    parts.push(asn1::tlv(part.tag, &[part.value, &more]));
                } else {
                    parts.push(part.raw.to_vec());
                }
            }
            let signed = asn1::sequence(&[&parts.concat()]);
            let content = asn1::tlv(context_constructed(0), &[&signed]);
            let token = asn1::sequence(&[kind.raw, &content]);
            Ok::<_, pki::DerError>(asn1::sequence(&[status.raw, &token]))
        };
        let sizes = (0..).map(|times| padded(times).unwrap());
        let fitting = sizes.take_while(|reply| reply.len() <= MAX_REPLY);
        fitting.last().unwrap()
    }
}

impl pki::fetch::Fetch for Talkative<'_> {
    fn get<'a>(&'a self, _: &'a str, _: usize) -> Fetching<'a> {
        unreachable!("nothing is got from a time-stamping authority")
    }

    fn post<'a>(&'a self, _: &'a str, _: &'a str, body: Vec<u8>, _: usize) -> Fetching<'a> {
        Box::pin(std::future::ready(Ok(self.answer(&body))))
    }
}

#[tokio::test]
async fn the_largest_time_stamp_that_is_taken_has_room() {
    let bench = Bench::new().await;
    let trust = bench.trust();
    let tsa = Talkative(&bench);
    let stamping = TimeStamping {
        fetch: &tsa,
        url: &bench.tsa,
        anchors: trust.tsa_anchors(),
        random: &SystemRandom,
    };
    let job = prepare(&bench.request("a", true)).unwrap();
    let value = bench.sign(job.hash_to_sign());
    let signed = job.finish(&value.into(), Some(&stamping)).await.unwrap();
    let found = pades::signatures(&std::fs::File::open(&signed.path).unwrap()).unwrap();
    assert!(found[0].contents.len() > MAX_REPLY, "the padding is in it");
    let checked = check(&signed.path, &trust, &bench.fetch, SystemClock.now())
        .await
        .unwrap();
    assert_eq!(checked.report.verdict, Verdict::Passed);
    assert_eq!(checked.report.signatures[0].time, "good");
}

#[tokio::test]
async fn without_revocation_data_the_check_says_so() {
    let bench = Bench::new().await;
    let job = prepare(&bench.request("a", false)).unwrap();
    let signed = job
        .finish(&bench.sign(job.hash_to_sign()).into(), None)
        .await
        .unwrap();
    // The development CA's services lie at names under localhost.
    let options = HttpOptions {
        public_only: true,
        ..HttpOptions::default()
    };
    let blind = HttpFetch::new(options.build().unwrap(), false);
    let trust = bench.trust();
    let checked = check(&signed.path, &trust, &blind, SystemClock.now())
        .await
        .unwrap();
    assert_eq!(checked.report.verdict, Verdict::Undetermined);
    let own = &checked.report.signatures[0];
    assert_eq!(
        (own.certificate, own.revocation, own.unchanged),
        ("good", "unknown", true)
    );
    let stranger = check(
        &signed.path,
        &Trust::default(),
        &bench.fetch,
        SystemClock.now(),
    )
    .await
    .unwrap();
    assert_eq!(stranger.report.verdict, Verdict::Undetermined);
    assert_eq!(stranger.report.signatures[0].certificate, "undetermined");
}

#[tokio::test]
async fn a_wrong_value_leaves_nothing() {
    let bench = Bench::new().await;
    let request = bench.request("a", false);
    let job = prepare(&request).unwrap();
    for wrong in [bench.sign(&[1; 48]), vec![0; 64], Vec::new()] {
        assert!(matches!(
            job.finish(&wrong.into(), None).await,
            Err(JobError::WrongSignature)
        ));
    }
    drop(job);
    assert!(!request.output.exists() && !part(&request.output).exists());
    assert_eq!(std::fs::read(&request.input).unwrap(), pdf());
}

#[tokio::test]
async fn nothing_is_ever_written_over() {
    let bench = Bench::new().await;
    let request = bench.request("a", false);
    std::fs::write(&request.output, b"mine").unwrap();
    assert!(matches!(prepare(&request), Err(JobError::File { .. })));
    assert_eq!(std::fs::read(&request.output).unwrap(), b"mine");
    std::fs::remove_file(&request.output).unwrap();

    let job = prepare(&request).unwrap();
    assert!(
        matches!(prepare(&request), Err(JobError::File { .. })),
        "two jobs for one output"
    );
    std::fs::write(&request.output, b"meanwhile").unwrap();
    let value = bench.sign(job.hash_to_sign());
    assert!(matches!(
        job.finish(&value.into(), None).await,
        Err(JobError::File { .. })
    ));
    assert_eq!(std::fs::read(&request.output).unwrap(), b"meanwhile");
    std::fs::remove_file(&request.output).unwrap();
    drop(job);

    // A link that somebody laid where the unfinished file goes.
    let victim = bench.path("victim");
    std::fs::write(&victim, b"victim").unwrap();
    std::os::unix::fs::symlink(&victim, part(&request.output)).unwrap();
    assert!(prepare(&request).is_err());
    assert_eq!(std::fs::read(&victim).unwrap(), b"victim");
    std::fs::remove_file(part(&request.output)).unwrap();

    // What a killed run left is no obstacle.
    std::fs::write(
        part(&request.output),
        b"rest of an earlier run, longer than nothing",
    )
    .unwrap();
    let job = prepare(&request).unwrap();
    job.finish(&bench.sign(job.hash_to_sign()).into(), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refused_file_leaves_nothing() {
    let bench = Bench::new().await;
    let request = bench.request("a", false);
    std::fs::write(&request.input, b"%PDF-1.7 and no more").unwrap();
    assert!(matches!(prepare(&request), Err(JobError::Pdf(_))));
    assert!(!request.output.exists() && !part(&request.output).exists());
}

#[tokio::test]
async fn addresses_of_strangers_do_not_lead_inside() {
    let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    let options = HttpOptions {
        public_only: true,
        ..HttpOptions::default()
    };
    let fetch = HttpFetch::new(options.build().unwrap(), false);
    let inside = [
        "127.0.0.1",
        "localhost",
        "a.localhost",
        "[::1]",
        "[::ffff:7f00:1]",
        "2130706433",
        "0x7f.1",
    ];
    for host in inside {
        let url = format!("http://{host}:{port}/crl");
        let error = fetch.get(&url, 100).await.unwrap_err();
        assert!(error.reason.contains("public"), "{host}: {}", error.reason);
    }
    assert!(fetch.get("file:///etc/passwd", 100).await.is_err());
    // Nobody knocked.
    let knock = std::pin::pin!(socket.accept());
    assert!(futures_poll(knock).is_none());
}

#[tokio::test]
async fn a_status_is_an_answer_and_a_closed_door_is_none() {
    let bench = Bench::new().await;
    let list = bench.ca.urls().crl.clone();
    for (url, limit) in [(format!("{list}/no/such"), 100), (list, 1)] {
        let error = bench.fetch.get(&url, limit).await.unwrap_err();
        assert!(error.answered, "{error}");
    }
    // A port that is given to nobody by chance.
    let closed = "http://127.0.0.1:1/";
    let error = bench.fetch.get(closed, 100).await.unwrap_err();
    assert!(!error.answered, "{error}");
}

/// The result of a future that is ready, without waiting for it.
fn futures_poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
