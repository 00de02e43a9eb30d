//! Several tokens as one back end: who takes part when one of them is away.

use std::sync::Arc;

use cm_core::backend::Backend;
use cm_core::several::{Awaited, Declared, Device, NotOpen, Several};
use service_kit::Trouble;

use super::{LACKS, NotOpened, Token, Wanted, WrappingKey, unchecked};

/// Whether one of several tokens may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The others begin without it, and it is waited for.
    Waits,
    /// Not before a module has started once: nobody would notice a label that is misspelt.
    Stops,
}

/// Makes the tokens ready as one back end.
///
/// # Errors
/// As [`super::open`].
pub(super) fn several(
    shared: bool,
    tokens: &[Token],
    missing: Missing,
) -> Result<Arc<dyn Backend>, NotOpened> {
    let wrong = || {
        NotOpened::from(Trouble::new(
            "bad-config",
            "several tokens are 1 to 255, all with the same keys setting".to_owned(),
            "see the comments in the sample of this daemon",
        ))
    };
    let alike = tokens.iter().all(|token| token.keys == tokens[0].keys);
    if !alike || tokens.len() > 255 {
        return Err(wrong());
    }
    let alone = |token: &Token| tokens.iter().filter(|t| t.module == token.module).count() == 1;
    let wanted = tokens.iter().map(|token| Wanted::of(token, alone(token)));
    let wanted: Vec<Wanted> = wanted.collect::<Result<_, Trouble>>()?;
    let opened = wanted.iter().map(|one| one.token().map(Some));
    let opened = taking_part(opened, missing)?;
    // One that is away may be the one that has it.
    let all = opened.iter().all(Option::is_some);
    let whose = |n| match shared {
        true if !all || n > 0 => WrappingKey::Others,
        _ => WrappingKey::Own,
    };
    let keys = wanted.iter().zip(opened).enumerate();
    let keys = keys.map(|(n, (one, token))| match token {
        Some(token) => one.keys(token, whose(n)).map(Some),
        None => Ok(None),
    });
    let keys = taking_part(keys, missing)?;
    let devices = wanted.into_iter().zip(keys);
    let devices = devices.map(|(one, keys)| match keys {
        Some(keys) => Device::There(keys),
        None => Device::Away(Box::new(Later { one, shared })),
    });
    let several = Several::new(devices, shared).ok_or_else(wrong)?;
    several.check().map_err(|fault| unchecked(&fault))?;
    Ok(Arc::new(several))
}

/// Who takes part: all that are there. One that is there and can't be used stops the start by name; one that is away does if all
/// are needed, or if nobody is there.
fn taking_part<T>(
    found: impl Iterator<Item = Result<Option<T>, NotOpened>>,
    missing: Missing,
) -> Result<Vec<Option<T>>, NotOpened> {
    let (mut part, mut away) = (Vec::new(), None);
    for (index, one) in found.enumerate() {
        match one {
            Ok(one) => part.push(one),
            Err(not) if not.passes() && missing == Missing::Waits => {
                tracing::error!(index, error = %not.trouble, "one of several devices is away");
                part.push(None);
                away.get_or_insert(not);
            }
            Err(not) => return Err(not),
        }
    }
    match away {
        Some(not) if part.iter().all(Option::is_none) => Err(not),
        _ => Ok(part),
    }
}

/// One of several tokens that wasn't there at the start. It is opened as then, and never makes the first wrapping key of those that
/// share one: the others have begun without it.
struct Later {
    one: Wanted,
    shared: bool,
}

impl Awaited for Later {
    fn declared(&self) -> Declared {
        self.one.declared()
    }

    fn open(&self) -> Result<Arc<dyn Backend>, NotOpen> {
        let whose = match self.shared {
            true => WrappingKey::Others,
            false => WrappingKey::Own,
        };
        let opened = self.one.token();
        let opened = opened.and_then(|token| self.one.keys(token, whose));
        opened.map_err(|not| match not.what {
            _ if not.passes() => NotOpen::Away,
            LACKS => NotOpen::Lacks(not.trouble.what),
            _ => NotOpen::Refused(not.trouble.what),
        })
    }
}

#[cfg(test)]
mod tests {
    use cm_pkcs11::OpenError;

    use super::*;

    // shows: T-KEY-MALFUNCTION, III-3-13-secure-state
    #[test]
    fn who_is_there_takes_part_and_who_is_there_and_wrong_stops_the_start() {
        let not = |error: fn() -> OpenError| Err(NotOpened::from(error()));
        let away = || not(|| OpenError::Silent);
        let pin = || not(|| OpenError::Login("PIN".into()));
        let serial = || {
            not(|| OpenError::Serial {
                label: "token".into(),
                found: "2".into(),
            })
        };
        let there = || Ok(Some(()));
        let take = |found: Vec<Result<Option<()>, NotOpened>>, missing| {
            let mut asked = 0;
            let part = taking_part(found.into_iter().inspect(|_| asked += 1), missing);
            (part.map_err(|not| not.what), asked)
        };
        let (waits, stops) = (Missing::Waits, Missing::Stops);
        for missing in [waits, stops] {
            let all = take(vec![there(), there()], missing);
            assert_eq!(all, (Ok(vec![Some(()), Some(())]), 2));
            // By name, wherever it stands in the list; and no PIN is tried after it.
            let wrong = take(vec![there(), pin(), there()], missing);
            assert_eq!(wrong, (Err("cm-start-login"), 2));
        }
        let one = take(vec![away(), there()], waits);
        assert_eq!(one, (Ok(vec![None, Some(())]), 2));
        let one = take(vec![away(), there()], stops);
        assert_eq!(one, (Err("cm-start-silent"), 1));
        for (wrong, what) in [
            (pin(), "cm-start-login"),
            (serial(), "cm-start-contradiction"),
        ] {
            let named = take(vec![away(), wrong, there()], waits);
            assert_eq!(named, (Err(what), 2));
        }
        let nobody = take(vec![away(), Ok(None)], waits);
        assert_eq!(nobody, (Err("cm-start-silent"), 2));
    }
}
