//! Witnesses: whoever keeps the log's checkpoints outside the database. A file on the auditor's side, and programs that
//! cosign checkpoints over the network (C2SP tlog-witness, tlog-cosignature), which also shows that the log was shown
//! to everybody in one form.

mod file;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_types::bytes::{b64, hex, sha256};
use core_types::{Digest32, UnixTime};

use crate::error::AuditError;

pub(crate) use file::WitnessFile;

/// Signature type *cosignature/v1* (Ed25519) of the signed-note format.
const COSIGNATURE: u8 = 4;

/// What a witness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// A request under way; nothing when the witness wasn't reached or its answer didn't come.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>>;

/// Carries requests to a witness. The daemon has the network, the log doesn't.
pub trait Carrier: Send + Sync {
    /// Posts `body` to the witness's `add-checkpoint`.
    fn add_checkpoint(&self, body: String) -> Asking<'_>;
}

/// A witness that cosigns over the network.
pub struct Witness {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
    carrier: Box<dyn Carrier>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witness({})", self.name)
    }
}

/// What to do when a witness doesn't cosign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Record and alert; the zone goes on.
    Alert,
    /// The zone stops.
    Stop,
}

/// The witnesses of a log.
#[derive(Debug)]
pub struct Witnesses {
    /// Who cosigns.
    pub cosigners: Vec<Witness>,
    /// How long one may stay away, in seconds.
    pub patience: i64,
    /// What then.
    pub measure: Measure,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self {
            cosigners: Vec::new(),
            patience: 60,
            measure: Measure::Alert,
        }
    }
}

/// What an answer means for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The witness has the checkpoint: its signature line, which ends with a newline.
    Cosigned(String),
    /// The witness knows a checkpoint of another size.
    Knows(u64),
    /// What it knows isn't the beginning of this log.
    Contradicts,
    /// It doesn't do its work: away, doesn't know the log, or answers something else.
    Away,
}

impl Witness {
    /// The witness with this public key, `NAME+HASH+KEY` of the type *cosignature/v1*.
    ///
    /// # Errors
    /// [`AuditError::BadWitness`].
    pub fn new(vkey: &str, carrier: Box<dyn Carrier>) -> Result<Self, AuditError> {
        let bad = || AuditError::BadWitness(vkey.to_owned());
        let mut parts = vkey.trim().splitn(3, '+');
        let (name, hash, key) = (parts.next(), parts.next(), parts.next());
        let (Some(name), Some(hash), Some(key)) = (name, hash, key) else {
            return Err(bad());
        };
        let typed = STANDARD.decode(key).map_err(|_| bad())?;
        let digest = sha256(&[name.as_bytes(), b"\n", &typed]);
        let id = [digest.0[0], digest.0[1], digest.0[2], digest.0[3]];
        let key = match typed.split_first() {
            Some((&COSIGNATURE, key)) => key.try_into().map_err(|_| bad())?,
            _ => return Err(bad()),
        };
        if name.is_empty() || hex(id) != hash {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            id,
            key,
            carrier,
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Which witness, for the log.
    pub(crate) fn digest(&self) -> Digest32 {
        sha256(&[self.name.as_bytes(), b"\n", &self.key])
    }

    /// Asks for a cosignature under `note`, which follows the checkpoint of size `old` by `proof`.
    pub(crate) async fn ask(
        &self,
        old: i64,
        proof: &[Digest32],
        note: &str,
        now: UnixTime,
    ) -> Meaning {
        let mut body = format!("old {old}\n");
        for hash in proof {
            body.push_str(&b64(hash));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(note);
        let Some(answer) = self.carrier.add_checkpoint(body).await else {
            return Meaning::Away;
        };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => self
                .cosignature(&text, note, now)
                .map_or(Meaning::Away, Meaning::Cosigned),
            409 => text
                .trim_end()
                .parse()
                .map_or(Meaning::Away, Meaning::Knows),
            422 => Meaning::Contradicts,
            _ => Meaning::Away,
        }
    }

    /// The line of this witness among those answered, if its signature is good and not from the future.
    fn cosignature(&self, lines: &str, note: &str, now: UnixTime) -> Option<String> {
        let (text, _) = note.split_once("\n\n")?;
        lines.lines().find_map(|line| {
            let encoded = line.strip_prefix("\u{2014} ")?.strip_prefix(&self.name)?;
            let bytes = STANDARD.decode(encoded.strip_prefix(' ')?).ok()?;
            let (id, rest) = bytes.split_first_chunk::<4>()?;
            let (time, signature) = rest.split_first_chunk::<8>()?;
            let time = i64::try_from(u64::from_be_bytes(*time)).ok()?;
            if *id != self.id || UnixTime(time) > now.plus(SKEW) {
                return None;
            }
            let message = format!("cosignature/v1\ntime {time}\n{text}\n");
            let key = UnparsedPublicKey::new(&ED25519, &self.key);
            key.verify(message.as_bytes(), signature).ok()?;
            Some(format!("{line}\n"))
        })
    }
}

/// How far a witness's clock may go ahead of ours, in seconds.
const SKEW: i64 = 300;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    struct Says(u16, &'static str);

    impl Carrier for Says {
        fn add_checkpoint(&self, _: String) -> Asking<'_> {
            let body = self.1.as_bytes().to_vec();
            let status = self.0;
            Box::pin(async move { Some(Answer { status, body }) })
        }
    }

    fn vkey(kind: u8) -> (Ed25519KeyPair, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let typed = [&[kind], pair.public_key().as_ref()].concat();
        let id = sha256(&[b"w.example\n", &typed]);
        let text = format!("w.example+{}+{}", hex(&id.0[..4]), STANDARD.encode(&typed));
        (pair, text)
    }

    #[test]
    fn only_the_key_of_a_cosigner_is_taken() {
        assert!(Witness::new(&vkey(4).1, Box::new(Says(200, ""))).is_ok());
        for bad in [
            vkey(1).1,
            vkey(4).1.replace("w.example", "x.example"),
            vkey(4).1.replacen('+', "", 1),
            String::new(),
        ] {
            assert!(
                Witness::new(&bad, Box::new(Says(200, ""))).is_err(),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn an_answer_counts_only_for_what_it_shows() {
        let (pair, vkey) = vkey(4);
        let note = "log\n5\nROOT=\n\n\u{2014} log SIG=\n";
        let line = |time: u64, text: &str| {
            let message = format!("cosignature/v1\ntime {time}\n{text}");
            let witness = Witness::new(&vkey, Box::new(Says(200, ""))).unwrap();
            let signature = pair.sign(message.as_bytes());
            let bytes = [&witness.id[..], &time.to_be_bytes(), signature.as_ref()].concat();
            format!("\u{2014} w.example {}\n", STANDARD.encode(bytes))
        };
        let now = UnixTime(1000);
        let says = |status, text: String| Says(status, Box::leak(text.into_boxed_str()));
        let ask = async |says: Says| {
            let witness = Witness::new(&vkey, Box::new(says)).unwrap();
            witness.ask(0, &[], note, now).await
        };
        let good = line(1000, "log\n5\nROOT=\n");
        let among = format!("\u{2014} other {}\n{good}", STANDARD.encode([0; 76]));
        assert_eq!(ask(says(200, among)).await, Meaning::Cosigned(good));
        for bad in [
            line(1000, "log\n6\nROOT=\n"),
            line(2000, "log\n5\nROOT=\n"),
            String::new(),
        ] {
            assert_eq!(ask(says(200, bad)).await, Meaning::Away);
        }
        assert_eq!(ask(Says(409, "7\n")).await, Meaning::Knows(7));
        assert_eq!(ask(Says(409, "seven")).await, Meaning::Away);
        assert_eq!(ask(Says(422, "")).await, Meaning::Contradicts);
        assert_eq!(ask(Says(404, "")).await, Meaning::Away);
    }
}
