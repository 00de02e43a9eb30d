//! Access tokens: opaque, stored as digests, bound to client, person, scope and, for signing, to one key.

use core_types::{ClientId, Digest32, KeyAlg, KeyId, PersonId, UnixTime};
use csc_types::SecretText;
use store_kit::{Row, StoreError, Tx, sql};

use crate::clients;
use crate::crypt::digest;

/// Life of a service token in seconds.
pub(crate) const SERVICE_LIFE: i64 = 3600;

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Read about the person's credentials.
    Service,
    /// Sign with one key, as the SAM decides.
    Credential(KeyFacts),
    /// Tell that its person had this credential deleted.
    Deletion(KeyFacts),
    /// Tell that its person had this credential made.
    Creation(KeyFacts),
}

impl Scope {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Credential(_) => "credential",
            Self::Deletion(_) => "credential-deletion",
            Self::Creation(_) => "credential-creation",
        }
    }

    /// What a contract calls it: whoever may ask for approvals may ask for this one.
    pub(crate) fn contract(&self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Credential(_) | Self::Deletion(_) | Self::Creation(_) => "credential",
        }
    }

    /// The one key that it is about.
    pub(crate) fn facts(&self) -> Option<&KeyFacts> {
        match self {
            Self::Service => None,
            Self::Credential(facts) | Self::Deletion(facts) | Self::Creation(facts) => Some(facts),
        }
    }
}

/// What is known about a key when its use is authorized, so that signing needs no further question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyFacts {
    pub(crate) key: KeyId,
    pub(crate) alg: KeyAlg,
    /// End of the certificate.
    pub(crate) not_after: UnixTime,
}

/// What whoever uses a token has to prove beside knowing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The key with this thumbprint, with each call (DPoP, RFC 9449).
    Key(Digest32),
    /// The key of the certificate with this thumbprint, in the TLS handshake (RFC 8705 §3).
    Certificate(Digest32),
}

impl Holder {
    const CERTIFICATE: &'static str = "x5t#S256:";

    /// `cnf` of a token (RFC 7800 §3.1).
    pub(crate) fn confirmation(self) -> serde_json::Value {
        match self {
            Self::Key(thumbprint) => serde_json::json!({ "jkt": thumbprint }),
            Self::Certificate(thumbprint) => serde_json::json!({ "x5t#S256": thumbprint }),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(thumbprint) => thumbprint.fmt(f),
            Self::Certificate(thumbprint) => write!(f, "{}{thumbprint}", Self::CERTIFICATE),
        }
    }
}

/// Reads the column `cnf`.
pub(crate) fn read_holder(row: &Row) -> Result<Option<Holder>, StoreError> {
    let Some(text) = row.maybe_text("cnf")? else {
        return Ok(None);
    };
    let holder = match text.strip_prefix(Holder::CERTIFICATE) {
        Some(thumbprint) => Digest32::parse(thumbprint).map(Holder::Certificate),
        None => Digest32::parse(&text).map(Holder::Key),
    };
    holder.map(Some).map_err(|_| StoreError::Column("cnf"))
}

/// A token as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) scope: Scope,
    pub(crate) client: ClientId,
    /// Whose data it opens; none for a token of the client itself.
    pub(crate) person: Option<PersonId>,
    /// Who alone may use it.
    pub(crate) holder: Option<Holder>,
    /// What was approved are hashes of data to be signed, and none is of a document.
    pub(crate) bare: bool,
    pub(crate) exp: UnixTime,
    pub(crate) revoked: bool,
}

impl Token {
    /// `token_type` of the answer that brings it.
    pub(crate) fn kind(&self) -> &'static str {
        match self.holder {
            Some(Holder::Key(_)) => "DPoP",
            Some(Holder::Certificate(_)) | None => "Bearer",
        }
    }

    pub(crate) fn live(&self, now: UnixTime) -> bool {
        !self.revoked && now < self.exp
    }
}

/// Stores a token; `grant` is the id of the code it was issued for.
pub(crate) async fn insert(
    tx: &mut Tx,
    text: &SecretText,
    grant: &str,
    token: &Token,
    now: UnixTime,
) -> Result<(), StoreError> {
    // Kept for a day, so that an old token is called expired and not unknown.
    let old = now.plus(-24 * 60 * 60).0;
    tx.execute(sql("DELETE FROM ssa_token WHERE exp < $1").bind(old))
        .await?;
    let insert = "INSERT INTO ssa_token (id, grant_id, scope, client, person, key, alg, not_after, exp, cnf, bare, revoked) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)";
    let facts = token.scope.facts();
    let insert = sql(insert)
        .bind(digest(text.expose()))
        .bind(grant)
        .bind(token.scope.name())
        .bind(token.client.as_str())
        .bind(token.person.as_ref().map_or("", PersonId::as_str))
        .bind(facts.map(|f| f.key.as_str()))
        .bind(facts.map(|f| f.alg.name()))
        .bind(facts.map(|f| f.not_after.0))
        .bind(token.exp.0)
        .bind(token.holder.map(|holder| holder.to_string()))
        .bind(i64::from(token.bare));
    tx.execute(insert).await?;
    clients::used(tx, &token.client, token.person.as_ref(), now).await
}

/// Finds a token by its text.
pub(crate) async fn find(tx: &mut Tx, text: &SecretText) -> Result<Option<Token>, StoreError> {
    let query = "SELECT scope, client, person, key, alg, not_after, exp, cnf, bare, revoked FROM ssa_token WHERE id = $1";
    let row = tx
        .fetch_optional(sql(query).bind(digest(text.expose())))
        .await?;
    row.map(|row| read(&row)).transpose()
}

/// Revokes a token of this client; `false` when it has none of this text.
pub(crate) async fn revoke(
    tx: &mut Tx,
    text: &SecretText,
    client: &ClientId,
) -> Result<bool, StoreError> {
    let update = "UPDATE ssa_token SET revoked = 1 WHERE id = $1 AND client = $2";
    let update = sql(update)
        .bind(digest(text.expose()))
        .bind(client.as_str());
    Ok(tx.execute(update).await? == 1)
}

/// Revokes a token that another one takes the place of; answers the id of the code it was issued for.
pub(crate) async fn replace(tx: &mut Tx, text: &SecretText) -> Result<String, StoreError> {
    let id = digest(text.expose());
    let select = sql("SELECT grant_id FROM ssa_token WHERE id = $1").bind(&id);
    let grant = tx.fetch_one(select).await?.text("grant_id")?;
    tx.execute(sql("UPDATE ssa_token SET revoked = 1 WHERE id = $1").bind(&id))
        .await?;
    Ok(grant)
}

/// Revokes everything that was issued for a code.
pub(crate) async fn revoke_grant(tx: &mut Tx, grant: &str) -> Result<u64, StoreError> {
    let update = "UPDATE ssa_token SET revoked = 1 WHERE grant_id = $1 AND revoked = 0";
    tx.execute(sql(update).bind(grant)).await
}

/// Revokes what lets applications read about a person's keys. An approval is its own right, given once for itself, and
/// isn't touched.
pub(crate) async fn revoke_person(tx: &mut Tx, person: &PersonId) -> Result<u64, StoreError> {
    let update =
        "UPDATE ssa_token SET revoked = 1 WHERE person = $1 AND scope = 'service' AND revoked = 0";
    tx.execute(sql(update).bind(person.as_str())).await
}

fn read(row: &Row) -> Result<Token, StoreError> {
    let scope = match row.text("scope")?.as_str() {
        "service" => Scope::Service,
        "credential" => Scope::Credential(read_facts(row)?.ok_or(StoreError::Column("key"))?),
        "credential-deletion" => {
            Scope::Deletion(read_facts(row)?.ok_or(StoreError::Column("key"))?)
        }
        "credential-creation" => {
            Scope::Creation(read_facts(row)?.ok_or(StoreError::Column("key"))?)
        }
        _ => return Err(StoreError::Column("scope")),
    };
    let person = match row.text("person")? {
        none if none.is_empty() => None,
        person => Some(PersonId::parse(person).map_err(|_| StoreError::Column("person"))?),
    };
    Ok(Token {
        scope,
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        person,
        holder: read_holder(row)?,
        bare: row.int("bare")? != 0,
        exp: UnixTime(row.int("exp")?),
        revoked: row.int("revoked")? != 0,
    })
}

/// Reads the columns `key`, `alg` and `not_after`.
pub(crate) fn read_facts(row: &Row) -> Result<Option<KeyFacts>, StoreError> {
    let Some(key) = row.maybe_text("key")? else {
        return Ok(None);
    };
    let name = row.text("alg")?;
    let alg = KeyAlg::ALL.into_iter().find(|alg| alg.name() == name);
    Ok(Some(KeyFacts {
        key: KeyId::parse(key).map_err(|_| StoreError::Column("key"))?,
        alg: alg.ok_or(StoreError::Column("alg"))?,
        not_after: UnixTime(row.int("not_after")?),
    }))
}
