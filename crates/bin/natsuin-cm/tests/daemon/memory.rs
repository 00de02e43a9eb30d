//! What is left of a key in memory and files.

use std::fs;

use cm_api::Executed;
use core_types::{HashAlg, SigAlg};
use pkcs11_faults::softhsm;

use crate::kit::*;

/// Whether these bytes are anywhere in the memory of the process.
fn in_memory(pid: u32, needle: &[u8]) -> bool {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = false;
    for line in maps.lines().filter(|l| l.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        found |= bytes[..read].windows(needle.len()).any(|w| w == needle);
    }
    found
}

/// A pair that is brought in, and the bytes of it that mustn't be found.
struct Pair {
    pkcs8: Vec<u8>,
    spki: Vec<u8>,
    prove: Prove,
    secret: Vec<(&'static str, Vec<u8>)>,
}

type Prove = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// Elliptic: the scalar, as PKCS#8 has it and as the library keeps it.
fn elliptic() -> Pair {
    let made = aws_lc_rs::signature::EcdsaKeyPair::generate(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    )
    .unwrap();
    let pkcs8 = made.to_pkcs8v1().unwrap();
    let pkcs8 = pkcs8.as_ref().to_vec();
    let spki = {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::signature::KeyPair as _;
        let der: PublicKeyX509Der<'_> = made.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    };
    let at = pkcs8.windows(2).position(|w| w == [0x04, 0x20]).unwrap() + 2;
    let scalar = pkcs8[at..at + 32].to_vec();
    let reversed: Vec<u8> = scalar.iter().rev().copied().collect();
    let secret = vec![
        ("scalar", scalar),
        ("scalar, little endian", reversed),
        ("PKCS#8", pkcs8[pkcs8.len() - 120..].to_vec()),
        (
            "PKCS#8 as text",
            core_types::bytes::b64u(&pkcs8).into_bytes()[40..160].to_vec(),
        ),
    ];
    let prove = move |message: &[u8]| {
        let random = aws_lc_rs::rand::SystemRandom::new();
        made.sign(&random, message).unwrap().as_ref().to_vec()
    };
    Pair {
        pkcs8,
        spki,
        prove: Box::new(prove),
        secret,
    }
}

/// RSA: one of its primes, as PKCS#8 has it and as the library keeps it.
fn rsa() -> Pair {
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let (pkcs8, spki) = {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
        use aws_lc_rs::signature::KeyPair as _;
        let pkcs8: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let spki: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
        (pkcs8.as_ref().to_vec(), spki.as_ref().to_vec())
    };
    let prime = {
        use pki::asn1::{INTEGER, OCTET_STRING, SEQUENCE, Tlv};
        let what = "key";
        let mut info = Tlv::single(&pkcs8, what)
            .unwrap()
            .open(SEQUENCE, what)
            .unwrap();
        info.expect(INTEGER, what).unwrap();
        info.expect(SEQUENCE, what).unwrap();
        let inner = info.expect(OCTET_STRING, what).unwrap().value;
        let mut key = Tlv::single(inner, what)
            .unwrap()
            .open(SEQUENCE, what)
            .unwrap();
        let mut numbers = (0..5).map(|_| {
            let number = key.expect(INTEGER, what).unwrap();
            number.as_uint(what).unwrap().to_vec()
        });
        numbers.nth(4).unwrap()
    };
    assert_eq!(prime.len(), 128);
    let prove = move |message: &[u8]| {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let mut value = vec![0; 256];
        let padding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        rsa.sign(padding, &random, message, &mut value).unwrap();
        value
    };
    let reversed = prime.iter().rev().copied().collect();
    Pair {
        pkcs8,
        spki,
        prove: Box::new(prove),
        secret: vec![("prime", prime), ("prime, little endian", reversed)],
    }
}

const PKCS1: SigAlg = SigAlg::RsaPkcs1(HashAlg::Sha256);

/// That none of these bytes are in the daemon's memory, or in a file.
fn clear(site: &Site, needles: &[(&str, Vec<u8>)], pid: u32, when: &str) {
    for (what, needle) in needles {
        assert!(!in_memory(pid, needle), "{what} in memory {when}");
        assert!(
            !in_files(site.token.path(), needle),
            "{what} in a file {when}"
        );
    }
}

// shows: III-3-1-no-plaintext-private-key, III-A1.4-intermediate-values, T-KEY-DISCLOSE, I-7.1.3.2-residual-information
#[tokio::test]
async fn a_key_that_was_brought_into_a_token_is_in_no_memory_and_no_file() {
    let site = Site::new();
    site.make_token();
    let module = softhsm::Library::SoftHsm2.path().unwrap();
    for (more, first) in [("", 1), ("keys = \"wrapped\"", 3)] {
        let backend = site.pkcs11(&module, "natsuin", more);
        let (running, client, _) = site.start(&backend).await;
        let sam = SamSide::new(client).await;
        let pid = running.0.id();
        for (pair, alg, act) in [(elliptic(), P256, first), (rsa(), PKCS1, first + 1)] {
            let key = sam.import(&pair.pkcs8, &pair.spki, &pair.prove).await;
            clear(&site, &pair.secret, pid, "after import");
            let signed = sam.order(sign(&key, alg, act)).await;
            assert!(matches!(signed, Executed::Signed(_)));
            clear(&site, &pair.secret, pid, "after signing");
            let ended = sam.order(destroy(&key)).await;
            assert!(matches!(ended, Executed::Destroyed(_)));
            clear(&site, &pair.secret, pid, "after destruction");
        }
    }
}

// shows: III-3-1-no-plaintext-private-key, III-A1.4-intermediate-values, III-A1.4.1-protect-use-disclosure, T-KEY-DISCLOSE,
// I-7.1.3.2-residual-information, I-A4-secure-erasure
#[tokio::test]
async fn no_private_key_is_in_memory_files_or_logs_after_use_and_after_its_end() {
    let site = Site::new();
    let (mut running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    let pair = elliptic();
    let key = sam.import(&pair.pkcs8, &pair.spki, &pair.prove).await;
    let mut needles = pair.secret;
    let pid = running.0.id();
    // The search itself finds what is there: the module's name in its settings.
    assert!(in_memory(pid, b"sam.test"));
    clear(&site, &needles, pid, "after import");
    let Executed::Signed(values) = sam.order(sign(&key, P256, 1)).await else {
        panic!("a signature was ordered")
    };
    let signed = pki::Signed::Message(b"document");
    pki::verify_signature(&key.spki.0, P256, signed, &values[0].0).unwrap();
    clear(&site, &needles, pid, "after signing");
    let pair = rsa();
    let other = sam.import(&pair.pkcs8, &pair.spki, &pair.prove).await;
    needles.extend(pair.secret);
    let signed = sam.order(sign(&other, PKCS1, 5)).await;
    assert!(matches!(signed, Executed::Signed(_)));
    clear(&site, &needles, pid, "after signing with RSA");

    // Backups and exported logs, made while the keys live and after their end.
    let kept = |name: &str, needles: &[(&str, Vec<u8>)]| {
        let [backup, log] = ["backup", "log"].map(|of| {
            let path = site.token.path().join(format!("{of}-{name}"));
            path.display().to_string()
        });
        site.done(&["backup", "--out", &backup]);
        site.done(&["export-log", "--out", &log]);
        for (what, needle) in needles {
            let found = in_files(site.token.path(), needle);
            assert!(!found, "{what} in a backup or log, {name}");
        }
    };
    let silent = |running: &mut Running, needles: &[(&str, Vec<u8>)]| {
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut running.0.stderr.take().unwrap(), &mut said).unwrap();
        for (what, needle) in needles {
            let found = said.as_bytes().windows(needle.len()).any(|w| w == needle);
            assert!(!found, "{what} in what it printed");
        }
    };
    silent(&mut running, &needles);
    kept("alive", &needles);

    let (mut running, client, _) = site.start("kind = \"software\"").await;
    let sam = SamSide::new(client).await;
    for key in [&key, &other] {
        assert!(matches!(
            sam.order(destroy(key)).await,
            Executed::Destroyed(_)
        ));
    }
    clear(&site, &needles, running.0.id(), "after destruction");
    silent(&mut running, &needles);
    kept("destroyed", &needles);
}

// shows: III-3-12-protect-security-functions, T-KEY-DISCLOSE
#[tokio::test]
async fn its_memory_goes_to_no_file() {
    let mut site = Site::new();
    site.settings = "lock_memory = true".to_owned();
    let read = |pid: &str, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let words = |text: &str, line: &str| {
        let found = text.lines().find(|l| l.starts_with(line)).unwrap();
        let words = found[line.len()..].split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |pid: &str, file: &str, line: &str| words(&read(pid, file), line);
    // Whoever may lock little memory isn't served with less protection than what is configured.
    let all = of("self", "limits", "Max locked memory")[1] == "unlimited"
        || of("self", "status", "Uid:")[1] == "0";
    if !all {
        let refused = site.refused("kind = \"software\"");
        assert!(refused.contains("LimitMEMLOCK"), "{refused}");
        return;
    }
    let (running, ..) = site.start("kind = \"software\"").await;
    let pid = running.0.id().to_string();
    assert_eq!(of(&pid, "limits", "Max core file size")[..2], ["0", "0"]);
    // Of one moment: the daemon goes on meanwhile.
    let status = read(&pid, "status");
    let [locked, resident] =
        ["VmLck:", "VmRSS:"].map(|line| words(&status, line)[0].parse::<u64>().unwrap());
    assert!(
        locked >= resident && resident > 0,
        "{locked} of {resident} kB"
    );
    drop(running);
    site.settings = String::new();
    let (running, ..) = site.start("kind = \"software\"").await;
    let pid = running.0.id().to_string();
    assert_eq!(of(&pid, "limits", "Max core file size")[..2], ["0", "0"]);
    assert_eq!(of(&pid, "status", "VmLck:")[0], "0", "only on demand");
}
