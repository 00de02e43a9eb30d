//! From values to signed files: embedded, time-stamped, checked, and told.

use core_types::Clock as _;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use csc_types::SignedValue;
use serde_json::{Value, json};
use signing_job::{HttpFetch, JobError, Prepared, Signed, TimeStamping, Trust, Verdict};
use web_ui::{Arg, clean};

use super::{Job, bug};
use crate::output::{Exit, Failure, Out, table_a1};

/// Puts the values into the files.
pub(super) async fn finish(
    jobs: Vec<Job>,
    values: Vec<SignedValue>,
    trust: &Trust,
    fetch: &HttpFetch,
    tsa: Option<&str>,
    out: Out,
) -> Result<Exit, Failure> {
    let stamping = tsa.map(|url| TimeStamping {
        fetch,
        url,
        anchors: trust.tsa_anchors(),
        random: &SystemRandom,
    });
    let total = jobs.len();
    let mut results: Vec<Value> = Vec::new();
    let mut worst = Exit::Good;
    for (job, value) in jobs.into_iter().zip(values) {
        let finished = embed(&job.prepared, &value, stamping.as_ref(), out).await;
        let checked = match finished {
            Ok(signed) => signing_job::check(&signed.path, trust, fetch, SystemClock.now())
                .await
                .map(|checked| checked.outcome(&job.names, &signed, true)),
            Err(error) => Err(error),
        };
        let object = clean(&job.names.object);
        match checked {
            Ok(Some(outcome)) => {
                let (word, what, exit) = judged(outcome.verification_result.verdict);
                worst = worse(worst, exit);
                out.say(&format!("{word}  {object}: {}", out.m().t(what)));
                let mut value = serde_json::to_value(&outcome).unwrap_or_default();
                let target = job.target.display().to_string();
                out.say(&table_a1(out.m(), &value, &target, None));
                value["signed_document"] = target.into();
                results.push(value);
            }
            // The signature that was just written isn't in the file: something is wrong with this program.
            Ok(None) => return Err(bug()),
            Err(error) => {
                worst = worse(worst, Exit::Negative);
                out.say(&format!("NG  {object}: {}", clean(&error.to_string())));
                results.push(json!({"result": "failed", "signed_object": job.names.object, "code": error.code()}));
            }
        }
    }
    let signed = results.iter().filter(|r| r["result"] == "signed").count();
    let number = |n: usize| Arg::Num(u64::try_from(n).unwrap_or(u64::MAX));
    let counted = [("n", number(signed)), ("total", number(total))];
    out.say(&out.m().f("cli-signed-of", &counted));
    let ok = worst == Exit::Good;
    out.object(&json!({"schema": "natsuin.sign/1", "ok": ok, "results": results}));
    Ok(match signed {
        n if n == total => worst,
        0 => Exit::Negative,
        _ => Exit::Partly,
    })
}

/// How often a silent time-stamp authority is asked while the signature value is in hand.
const STAMP_TRIES: usize = 3;

/// Puts the value into the file. An authority that gives no time doesn't cost the approval: then the file goes without.
async fn embed(
    prepared: &Prepared,
    value: &SignedValue,
    stamping: Option<&TimeStamping<'_>>,
    out: Out,
) -> Result<Signed, JobError> {
    for _ in 0..STAMP_TRIES {
        match prepared.finish(value, stamping).await {
            Err(JobError::TimeStamp(error)) => {
                tracing::warn!(%error, "the time-stamp authority gave no time");
            }
            done => return done,
        }
    }
    out.note(&out.m().t("cli-no-stamp"));
    prepared.finish(value, None).await
}

/// Word, message and exit code of a verdict over the file that was just signed.
fn judged(verdict: Verdict) -> (&'static str, &'static str, Exit) {
    match verdict {
        Verdict::Passed => ("OK", "cli-signed-verified", Exit::Good),
        Verdict::Undetermined => ("??", "cli-signed-undetermined", Exit::Undetermined),
        Verdict::Failed => ("NG", "cli-signed-unverified", Exit::Negative),
    }
}

fn worse(a: Exit, b: Exit) -> Exit {
    match (a, b) {
        (Exit::Negative, _) | (_, Exit::Negative) => Exit::Negative,
        (Exit::Good, other) | (other, _) => other,
    }
}
