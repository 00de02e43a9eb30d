//! Seals rows before they reach SQL: AES-256-GCM-SIV (RFC 8452) under `K_row`, bound to table, id, version and
//! tenant, so that a row can't be edited, moved to another place, mixed with another version or given to another tenant.
//!
//! A [`Sealer`] is one tenant's: rows of the others aren't there for it, whatever id it is asked for. That is the wall
//! between tenants; what is above it needn't know of the others.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use core_types::noise::Watched;
use core_types::{Random as _, SecretBytes, TenantId, sha256};
use store_kit::Seen;
use zeroize::Zeroizing;

/// Format of the rows of the provider's own tenant, part of what is authenticated.
const FORMAT: u8 = 1;
/// Format of the rows of other tenants, which begin with the tenant's name after its length.
const OF_TENANT: u8 = 2;
const NONCE: usize = 12;

/// Tables of which this node remembers the newest versions, and the log tells every change. Not the others: values made once are never changed, and the
/// SAM's own keys of a day may be made again after the clock was set back.
pub(crate) const REMEMBERED: [&str; 13] = [
    "settings",
    "person",
    "factor",
    "signing_key",
    "voucher",
    "request",
    "act",
    "office_genesis",
    "office_person",
    "office_account",
    "office_proposal",
    "office_session",
    "standing",
];

/// The open `K_row` in the hands of one tenant, and the memory of what it sealed and opened.
pub(crate) struct Sealer {
    key: Arc<LessSafeKey>,
    /// The provider's own tenant.
    house: TenantId,
    /// Whose this is, unless it is the provider's own.
    tenant: Option<TenantId>,
    random: Arc<Watched>,
    seen: Arc<[Seen; REMEMBERED.len()]>,
}

/// A sealed row didn't open, or can't be sealed: the library refused, or the generator has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadSeal;

impl Sealer {
    /// That of the provider's own tenant.
    pub(crate) fn new(
        key: &SecretBytes,
        house: TenantId,
        random: Arc<Watched>,
    ) -> Result<Self, BadSeal> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.expose()).map_err(|_| BadSeal)?;
        Ok(Self {
            key: Arc::new(LessSafeKey::new(key)),
            house,
            tenant: None,
            random,
            seen: Arc::new(REMEMBERED.map(Seen::recorded)),
        })
    }

    /// That of another tenant, on the same rows.
    pub(crate) fn of(&self, tenant: TenantId) -> Self {
        Self {
            key: self.key.clone(),
            house: self.house.clone(),
            tenant: Some(tenant),
            random: self.random.clone(),
            seen: self.seen.clone(),
        }
    }

    /// Whether the tenant is the provider's own.
    pub(crate) fn is_own(&self) -> bool {
        self.tenant.is_none()
    }

    /// What a name of this tenant's is called where the names of all tenants stand side by side.
    pub(crate) fn name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        name_of(self.tenant.as_ref(), name)
    }

    /// What such names of this tenant's begin with; nothing: they are those without a prefix.
    pub(crate) fn prefix(&self) -> Option<String> {
        self.tenant.as_ref().map(|tenant| tenant.name(""))
    }

    /// Whether a sealed row is this tenant's, as far as it says itself: if it lies, it doesn't open.
    fn owns(&self, sealed: &[u8]) -> Result<bool, BadSeal> {
        Ok(whose(sealed)? == self.tenant)
    }

    /// What this node has seen of a table.
    pub(crate) fn seen(&self, table: &str) -> Option<&Seen> {
        let place = REMEMBERED.iter().position(|t| *t == table)?;
        self.seen.get(place)
    }

    pub(crate) fn seal(
        &self,
        table: &str,
        id: &str,
        version: i64,
        plain: Vec<u8>,
    ) -> Result<Vec<u8>, BadSeal> {
        let mut nonce = [0; NONCE];
        self.random.fill(&mut nonce);
        // What a failed generator gave, here or for the row itself, must not have an effect.
        if self.random.failed() {
            return Err(BadSeal);
        }
        let head = head(self.tenant.as_ref());
        let mut body = Zeroizing::new(plain);
        let tag = self.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            self.aad(self.tenant.as_ref(), table, id, version),
            body.as_mut_slice(),
        );
        let tag = tag.map_err(|_| BadSeal)?;
        Ok([&head, nonce.as_slice(), &body, tag.as_ref()].concat())
    }

    /// A row of this tenant's; nothing, if it is another's.
    pub(crate) fn open(
        &self,
        table: &str,
        id: &str,
        version: i64,
        sealed: Vec<u8>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, BadSeal> {
        match self.owns(&sealed)? {
            true => self.open_any(table, id, version, sealed).map(Some),
            false => Ok(None),
        }
    }

    /// A row, whosever it is: for maintenance, which answers nobody.
    pub(crate) fn open_any(
        &self,
        table: &str,
        id: &str,
        version: i64,
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, BadSeal> {
        let tenant = whose(&sealed)?;
        let start = head(tenant.as_ref()).len();
        let (nonce, body) = sealed[start..].split_at_checked(NONCE).ok_or(BadSeal)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| BadSeal)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self
            .key
            .open_in_place(
                nonce,
                self.aad(tenant.as_ref(), table, id, version),
                &mut body,
            )
            .map_err(|_| BadSeal)?
            .len();
        body.truncate(plain);
        Ok(body)
    }

    fn aad(&self, tenant: Option<&TenantId>, table: &str, id: &str, version: i64) -> Aad<[u8; 32]> {
        let format = tenant.map_or(FORMAT, |_| OF_TENANT);
        let tenant = tenant.unwrap_or(&self.house).as_str();
        let length = |s: &str| (s.len() as u64).to_be_bytes();
        let digest = sha256(&[
            b"natsuin-row-v1\n",
            &length(table),
            table.as_bytes(),
            &length(id),
            id.as_bytes(),
            &version.to_be_bytes(),
            &length(tenant),
            tenant.as_bytes(),
            &[format],
        ]);
        Aad::from(digest.0)
    }
}

/// What a name of this tenant's is called where the names of all tenants stand side by side; nothing: of the provider's own.
pub(crate) fn name_of<'a>(tenant: Option<&TenantId>, name: &'a str) -> Cow<'a, str> {
    match tenant {
        Some(tenant) if !name.is_empty() => Cow::Owned(tenant.name(name)),
        _ => Cow::Borrowed(name),
    }
}

/// What a row of this tenant begins with.
fn head(tenant: Option<&TenantId>) -> Vec<u8> {
    let Some(tenant) = tenant else {
        return vec![FORMAT];
    };
    // An identifier has at most 64 characters.
    let length = u8::try_from(tenant.as_str().len()).unwrap_or(u8::MAX);
    [&[OF_TENANT, length], tenant.as_str().as_bytes()].concat()
}

/// Whose a sealed row is, by its beginning; nothing: the provider's own. Not to be believed before it was opened.
pub(crate) fn whose(sealed: &[u8]) -> Result<Option<TenantId>, BadSeal> {
    match sealed {
        [FORMAT, ..] => Ok(None),
        [OF_TENANT, length, rest @ ..] => {
            let name = rest.get(..usize::from(*length)).ok_or(BadSeal)?;
            let name = str::from_utf8(name).map_err(|_| BadSeal)?;
            TenantId::parse(name).map(Some).map_err(|_| BadSeal)
        }
        _ => Err(BadSeal),
    }
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;

    use super::*;

    // shows: T-USE-CRED-ALTER, II-3.1.1-signer-data-protected
    #[test]
    fn a_row_opens_only_where_and_as_it_was_sealed() {
        let sealer = |key, tenant| {
            Sealer::new(
                &SecretBytes::new(vec![key; 32]),
                TenantId::parse(tenant).unwrap(),
                Arc::new(Watched::new(Arc::new(SystemRandom))),
            )
            .unwrap()
        };
        let s = sealer(1, "t");
        let sealed = s.seal("act", "a", 1, b"secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        let open = |s: &Sealer, table, id, v, bytes: &[u8]| s.open(table, id, v, bytes.to_vec());
        assert_eq!(
            open(&s, "act", "a", 1, &sealed)
                .unwrap()
                .unwrap()
                .as_slice(),
            b"secret"
        );
        assert!(open(&s, "key", "a", 1, &sealed).is_err());
        assert!(open(&s, "act", "b", 1, &sealed).is_err());
        assert!(open(&s, "act", "a", 2, &sealed).is_err());
        assert!(open(&sealer(2, "t"), "act", "a", 1, &sealed).is_err());
        assert!(open(&sealer(1, "u"), "act", "a", 1, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(open(&s, "act", "a", 1, &other).is_err(), "{at}");
        }
    }

    // shows: T-USE-CRED-ALTER
    #[test]
    fn a_row_is_there_for_its_tenant_only() {
        let house = Sealer::new(
            &SecretBytes::new(vec![1; 32]),
            TenantId::parse("house").unwrap(),
            Arc::new(Watched::new(Arc::new(SystemRandom))),
        )
        .unwrap();
        let of = |name| house.of(TenantId::parse(name).unwrap());
        let (acme, other) = (of("acme"), of("other"));
        let sealed = acme.seal("act", "a", 1, b"secret".to_vec()).unwrap();
        let open = |s: &Sealer, bytes: &[u8]| s.open("act", "a", 1, bytes.to_vec());
        assert_eq!(open(&acme, &sealed).unwrap().unwrap().as_slice(), b"secret");
        assert!(open(&other, &sealed).unwrap().is_none());
        assert!(open(&house, &sealed).unwrap().is_none());
        let any = house.open_any("act", "a", 1, sealed.clone()).unwrap();
        assert_eq!(any.as_slice(), b"secret");
        // Who says that it is another's hasn't made it another's.
        for (head, of) in [(head(other.tenant.as_ref()), &other), (head(None), &house)] {
            let forged = [&head, &sealed["acme".len() + 2..]].concat();
            assert!(open(of, &forged).is_err());
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // Not there, or not whole: never opened.
            assert!(!matches!(open(&acme, &changed), Ok(Some(_))), "{at}");
        }
        assert_eq!(acme.name("taro"), "acme/taro");
        assert_eq!(
            (acme.prefix(), house.prefix()),
            (Some("acme/".into()), None)
        );
        assert_eq!(
            (house.name("taro"), acme.name("")),
            ("taro".into(), "".into())
        );
    }
}
