//! Browsers that are sent elsewhere to log in and come back: to the listener that asks for certificates, or to an OpenID provider. The way back counts
//! once, for a few minutes, and only in the browser that left: what another browser was talked into is worth nothing.

use core_types::{SecretBytes, UnixTime};
use csc_types::SecretText;
use serde::{Deserialize, Serialize};
use store_kit::{StoreError, Tx, sql};

use crate::Ssa;
use crate::crypt::{digest, draw};
use crate::session::Browser;

/// Life of a trip in seconds: a card has to be found and its PIN typed.
const LIFE: i64 = 300;
/// Most trips of one browser at a time; the oldest give way.
const MOST: i64 = 8;

/// What a browser left for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trip {
    pub(crate) wish: Wish,
    pub(crate) leg: Leg,
}

/// What is to happen when it is back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// Log in, and go on there.
    LogIn {
        /// Handle of the authorization that wants a login; empty without one.
        flow: String,
        /// Page to go to.
        next: String,
    },
    /// Bind what was shown to the person who is logged in, under this name.
    Bind { name: String },
}

/// Where it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Leg {
    /// On its way to the listener that asks for certificates.
    ToCertificate,
    /// On its way back, with what was shown there or the code of why that doesn't count.
    FromCertificate(Result<Shown, String>),
    /// At an OpenID provider.
    ToProvider {
        /// Its short name.
        provider: String,
        nonce: String,
        /// Of PKCE.
        verifier: String,
    },
}

/// An identity that was proved elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Its name for good.
    pub(crate) id: core_types::Digest32,
    /// What people recognise it by.
    pub(crate) text: String,
}

impl Ssa {
    /// Stores a trip of this browser (its id); answers the handle to come back with.
    pub(crate) async fn set_out(
        &self,
        tx: &mut Tx,
        browser: &str,
        trip: &Trip,
        now: UnixTime,
    ) -> Result<SecretText, StoreError> {
        const BAD: StoreError = StoreError::Column("state");
        tx.execute(sql("DELETE FROM ssa_trip WHERE exp <= $1").bind(now.0))
            .await?;
        let handle = draw(self.random());
        let id = digest(handle.expose());
        let json = SecretBytes::new(serde_json::to_vec(trip).map_err(|_| BAD)?);
        let sealed = self
            .sealer()
            .seal(self.random(), &place(&id, browser), json.expose());
        let insert = "INSERT INTO ssa_trip (id, browser, state, exp) VALUES ($1, $2, $3, $4)";
        let insert = sql(insert)
            .bind(&id)
            .bind(browser)
            .bind(sealed.ok_or(BAD)?)
            .bind(now.plus(LIFE).0);
        tx.execute(insert).await?;
        let keep = "DELETE FROM ssa_trip WHERE browser = $1 AND id <> $2 AND id NOT IN (SELECT id FROM ssa_trip \
                    WHERE browser = $1 AND id <> $2 ORDER BY exp DESC, id LIMIT $3)";
        tx.execute(sql(keep).bind(browser).bind(&id).bind(MOST - 1))
            .await?;
        Ok(handle)
    }

    /// Takes a trip out of the store: it comes back once. `browser`: it has to be back where it began; without, whoever has
    /// the handle goes on with it, and gets to know the browser's id.
    pub(crate) async fn come_back(
        &self,
        tx: &mut Tx,
        handle: &str,
        browser: Option<&Browser>,
        now: UnixTime,
    ) -> Result<Option<(Trip, String)>, StoreError> {
        let id = digest(handle);
        let query = "SELECT browser, state FROM ssa_trip WHERE id = $1 AND exp > $2";
        let row = tx.fetch_optional(sql(query).bind(&id).bind(now.0)).await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let began = row.text("browser")?;
        if browser.is_some_and(|browser| browser.id() != began) {
            return Ok(None);
        }
        if tx
            .execute(sql("DELETE FROM ssa_trip WHERE id = $1").bind(&id))
            .await?
            != 1
        {
            return Ok(None);
        }
        let opened = self.sealer().open(&place(&id, &began), &row.blob("state")?);
        let trip = opened.and_then(|json| serde_json::from_slice(json.expose()).ok());
        Ok(trip.map(|trip| (trip, began)))
    }
}

fn place(id: &str, browser: &str) -> String {
    format!("ssa_trip/state/{id}/{browser}")
}
