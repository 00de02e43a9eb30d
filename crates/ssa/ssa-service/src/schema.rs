//! Tables of the SSA. Handles, codes, tokens and cookies are stored as SHA-256 only, so a copy of this database opens
//! nothing; seeds, request handles and voucher secrets are sealed.

use store_kit::{Migration, Migrations};

/// Migrations of the SSA's own tables.
pub(crate) const TABLES: Migrations = Migrations {
    component: "ssa",
    steps: &[
        Migration {
            name: "0001-accounts-and-grants",
            sqlite: SQLITE,
            postgres: POSTGRES,
        },
        Migration {
            name: "0002-login-passkeys",
            sqlite: PASSKEYS_SQLITE,
            postgres: PASSKEYS_POSTGRES,
        },
        Migration {
            name: "0003-bound-tokens-and-refreshing",
            sqlite: OAUTH_SQLITE,
            postgres: OAUTH_POSTGRES,
        },
        Migration {
            name: "0004-bounds",
            sqlite: BOUNDS_SQLITE,
            postgres: BOUNDS_POSTGRES,
        },
        Migration {
            name: "0005-out-of-band",
            sqlite: WAITING_SQLITE,
            postgres: WAITING_POSTGRES,
        },
        Migration {
            name: "0006-contracts",
            sqlite: CONTRACTS_SQLITE,
            postgres: CONTRACTS_POSTGRES,
        },
        Migration {
            name: "0007-signing-later",
            sqlite: LATER_SQLITE,
            postgres: LATER_POSTGRES,
        },
        Migration {
            name: "0008-identities-elsewhere",
            sqlite: LINKS_SQLITE,
            postgres: LINKS_POSTGRES,
        },
        Migration {
            name: "0009-notices",
            sqlite: NOTICES_SQLITE,
            postgres: NOTICES_POSTGRES,
        },
        Migration {
            name: "0010-registered-software",
            sqlite: SOFTWARE_SQLITE,
            postgres: SOFTWARE_POSTGRES,
        },
        Migration {
            name: "0011-bounds-of-devices-and-trips",
            sqlite: MORE_BOUNDS_SQLITE,
            postgres: MORE_BOUNDS_POSTGRES,
        },
        Migration {
            name: "0012-clients-of-software",
            sqlite: OF_SOFTWARE_SQLITE,
            postgres: OF_SOFTWARE_POSTGRES,
        },
        Migration {
            name: "0013-first-person-of-a-client",
            sqlite: FIRST_PERSON,
            postgres: FIRST_PERSON,
        },
        Migration {
            name: "0014-codes-of-version-1",
            sqlite: OF_V1_SQLITE,
            postgres: OF_V1_POSTGRES,
        },
        Migration {
            name: "0015-tokens-for-bare-hashes",
            sqlite: BARE_SQLITE,
            postgres: BARE_POSTGRES,
        },
    ],
};

// `version` is there for compare-and-swap; `exp` and the like are UTC seconds.
macro_rules! tables {
    ($int:literal, $blob:literal, $end:literal) => {
        concat!(
            "CREATE TABLE ssa_user (
                person TEXT PRIMARY KEY, login TEXT NOT NULL UNIQUE, name TEXT NOT NULL, password TEXT NOT NULL,
                seed ", $blob, " NOT NULL, last_step ", $int, " NOT NULL, created ", $int, " NOT NULL, version ", $int, " NOT NULL)", $end, ";
            CREATE TABLE ssa_guess (
                name TEXT PRIMARY KEY, fails ", $int, " NOT NULL, locked ", $int, " NOT NULL, seen ", $int, " NOT NULL,
                version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_guess_seen ON ssa_guess (seen);
            CREATE TABLE ssa_session (
                id TEXT PRIMARY KEY, person TEXT NOT NULL, created ", $int, " NOT NULL, seen ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_session_created ON ssa_session (created);
            CREATE TABLE ssa_consent (
                session TEXT NOT NULL, client TEXT NOT NULL, at ", $int, " NOT NULL, PRIMARY KEY (session, client))", $end, ";
            CREATE TABLE ssa_client (
                id TEXT PRIMARY KEY, name TEXT NOT NULL, secret TEXT, redirects TEXT NOT NULL, native ", $int, " NOT NULL,
                created ", $int, " NOT NULL)", $end, ";
            CREATE TABLE ssa_pushed (
                id TEXT PRIMARY KEY, client TEXT NOT NULL, params TEXT NOT NULL, exp ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_pushed_exp ON ssa_pushed (exp);
            CREATE TABLE ssa_flow (
                id TEXT PRIMARY KEY, browser TEXT NOT NULL, client TEXT NOT NULL, params TEXT NOT NULL,
                redirect TEXT NOT NULL, state TEXT NOT NULL, person TEXT, key TEXT, alg TEXT, not_after ", $int, ",
                rid ", $blob, ", created ", $int, " NOT NULL, version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_flow_created ON ssa_flow (created);
            CREATE TABLE ssa_code (
                id TEXT PRIMARY KEY, state TEXT NOT NULL, client TEXT NOT NULL, redirect TEXT NOT NULL,
                redirect_given ", $int, " NOT NULL, challenge TEXT NOT NULL, details TEXT, person TEXT NOT NULL, key TEXT,
                alg TEXT, not_after ", $int, ", rid ", $blob, ", exp ", $int, " NOT NULL, version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_code_exp ON ssa_code (exp);
            CREATE TABLE ssa_token (
                id TEXT PRIMARY KEY, grant_id TEXT NOT NULL, scope TEXT NOT NULL, client TEXT NOT NULL, person TEXT NOT NULL,
                key TEXT, alg TEXT, not_after ", $int, ", exp ", $int, " NOT NULL, revoked ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_token_exp ON ssa_token (exp);
            CREATE INDEX ssa_token_grant ON ssa_token (grant_id);
            CREATE TABLE ssa_invitation (
                id TEXT PRIMARY KEY, voucher TEXT NOT NULL UNIQUE, person TEXT NOT NULL, name TEXT NOT NULL,
                secret ", $blob, ", state TEXT NOT NULL, login TEXT, password TEXT, seed ", $blob, ",
                browser TEXT, exp ", $int, " NOT NULL, version ", $int, " NOT NULL)", $end, ";"
        )
    };
}

const SQLITE: &str = tables!("INTEGER", "BLOB", " STRICT");
const POSTGRES: &str = tables!("BIGINT", "BYTEA", "");

// `record` is sealed for its row and its person: whoever can write here can't give somebody another passkey.
macro_rules! passkeys {
    ($int:literal, $blob:literal, $end:literal) => {
        concat!(
            "CREATE TABLE ssa_passkey (
                id TEXT PRIMARY KEY, person TEXT NOT NULL, name TEXT NOT NULL, record ",
            $blob,
            " NOT NULL,
                created ",
            $int,
            " NOT NULL, used ",
            $int,
            ", version ",
            $int,
            " NOT NULL)",
            $end,
            ";
            CREATE INDEX ssa_passkey_person ON ssa_passkey (person);
            CREATE TABLE ssa_challenge (
                id TEXT PRIMARY KEY, browser TEXT NOT NULL, ceremony TEXT NOT NULL, exp ",
            $int,
            " NOT NULL)",
            $end,
            ";
            CREATE INDEX ssa_challenge_exp ON ssa_challenge (exp);
            CREATE INDEX ssa_session_person ON ssa_session (person);"
        )
    };
}

const PASSKEYS_SQLITE: &str = passkeys!("INTEGER", "BLOB", " STRICT");
const PASSKEYS_POSTGRES: &str = passkeys!("BIGINT", "BYTEA", "");

// A token of a client itself has no person: its column is empty. `cnf` is the thumbprint of the key that has to prove itself.
macro_rules! oauth {
    ($int:literal, $end:literal) => {
        concat!(
            "ALTER TABLE ssa_client ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
            ALTER TABLE ssa_code ADD COLUMN jkt TEXT;
            ALTER TABLE ssa_token ADD COLUMN cnf TEXT;
            CREATE TABLE ssa_refresh (
                id TEXT PRIMARY KEY, grant_id TEXT NOT NULL, client TEXT NOT NULL, person TEXT NOT NULL, cnf TEXT,
                state TEXT NOT NULL, began ", $int, " NOT NULL, exp ", $int, " NOT NULL, version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_refresh_grant ON ssa_refresh (grant_id);
            CREATE INDEX ssa_refresh_person ON ssa_refresh (person);
            CREATE INDEX ssa_refresh_began ON ssa_refresh (began);
            CREATE TABLE ssa_seen (id TEXT PRIMARY KEY, exp ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_seen_exp ON ssa_seen (exp);"
        )
    };
}

const OAUTH_SQLITE: &str = oauth!("INTEGER", " STRICT");
const OAUTH_POSTGRES: &str = oauth!("BIGINT", "");

// `waited`: tries while the name had to wait, for one entry in the log. `size`: bytes of what a client sent, so that nobody
// fills the store with requests that nobody answers.
macro_rules! bounds {
    ($int:literal) => {
        concat!(
            "ALTER TABLE ssa_guess ADD COLUMN waited ",
            $int,
            " NOT NULL DEFAULT 0;
            ALTER TABLE ssa_pushed ADD COLUMN size ",
            $int,
            " NOT NULL DEFAULT 0;
            CREATE INDEX ssa_pushed_client ON ssa_pushed (client, exp, size);
            ALTER TABLE ssa_flow ADD COLUMN size ",
            $int,
            " NOT NULL DEFAULT 0;
            CREATE INDEX ssa_flow_client ON ssa_flow (client, created, size);"
        )
    };
}

const BOUNDS_SQLITE: &str = bounds!("INTEGER");
const BOUNDS_POSTGRES: &str = bounds!("BIGINT");

// What waits for its person in the portal; `rid` is sealed. `ssa_mute`: refusals of a person to an application. `ssa_device`:
// devices that wait for their user; `id` and `user_code` are digests.
macro_rules! waiting {
    ($int:literal, $blob:literal, $end:literal) => {
        concat!(
            "CREATE TABLE ssa_waiting (
                id TEXT PRIMARY KEY, label TEXT NOT NULL UNIQUE, client TEXT NOT NULL, person TEXT NOT NULL,
                key TEXT NOT NULL, alg TEXT NOT NULL, not_after ", $int, " NOT NULL, cnf TEXT, items ", $int, " NOT NULL,
                rid ", $blob, " NOT NULL, state TEXT NOT NULL, created ", $int, " NOT NULL, exp ", $int, " NOT NULL,
                version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_waiting_person ON ssa_waiting (person, client, state);
            CREATE INDEX ssa_waiting_exp ON ssa_waiting (exp);
            CREATE TABLE ssa_mute (
                client TEXT NOT NULL, person TEXT NOT NULL, refusals ", $int, " NOT NULL, since ", $int, " NOT NULL,
                until ", $int, " NOT NULL, version ", $int, " NOT NULL, PRIMARY KEY (client, person))", $end, ";
            ALTER TABLE ssa_flow ADD COLUMN device TEXT;
            CREATE TABLE ssa_device (
                id TEXT PRIMARY KEY, user_code TEXT NOT NULL UNIQUE, client TEXT NOT NULL, params TEXT NOT NULL,
                state TEXT NOT NULL, pause ", $int, " NOT NULL, asked ", $int, " NOT NULL, exp ", $int, " NOT NULL,
                version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_device_exp ON ssa_device (exp);"
        )
    };
}

const WAITING_SQLITE: &str = waiting!("INTEGER", "BLOB", " STRICT");
const WAITING_POSTGRES: &str = waiting!("BIGINT", "BYTEA", "");

// `old_…`: what a client proved itself with before the last rotation. `counted`: signatures of a token that are in `ssa_use`, of
// which a row is a client's day (`2026-11-27`) or month.
macro_rules! contracts {
    ($int:literal, $end:literal) => {
        concat!(
            "ALTER TABLE ssa_client ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
            ALTER TABLE ssa_client ADD COLUMN version ",
            $int,
            " NOT NULL DEFAULT 0;
            ALTER TABLE ssa_client ADD COLUMN old_secret TEXT;
            ALTER TABLE ssa_client ADD COLUMN old_keys TEXT;
            ALTER TABLE ssa_client ADD COLUMN old_until ",
            $int,
            " NOT NULL DEFAULT 0;
            ALTER TABLE ssa_token ADD COLUMN counted ",
            $int,
            " NOT NULL DEFAULT 0;
            CREATE TABLE ssa_use (
                client TEXT NOT NULL, period TEXT NOT NULL, n ",
            $int,
            " NOT NULL, PRIMARY KEY (client, period))",
            $end,
            ";"
        )
    };
}

const CONTRACTS_SQLITE: &str = contracts!("INTEGER", " STRICT");
const CONTRACTS_POSTGRES: &str = contracts!("BIGINT", "");

// `call` is sealed for its row, and gone when there is an outcome.
macro_rules! later {
    ($int:literal, $blob:literal, $end:literal) => {
        concat!(
            "CREATE TABLE ssa_later (
                id TEXT PRIMARY KEY, client TEXT NOT NULL, person TEXT NOT NULL, cnf TEXT, call ", $blob, ",
                outcome TEXT NOT NULL, lease ", $int, " NOT NULL, exp ", $int, " NOT NULL, version ", $int, " NOT NULL)", $end, ";
            CREATE INDEX ssa_later_exp ON ssa_later (exp);"
        )
    };
}

const LATER_SQLITE: &str = later!("INTEGER", "BLOB", " STRICT");
const LATER_POSTGRES: &str = later!("BIGINT", "BYTEA", "");

// `record` is sealed for its row and its person, `state` for its row and its browser.
macro_rules! links {
    ($int:literal, $blob:literal, $end:literal) => {
        concat!(
            "CREATE TABLE ssa_link (
                id TEXT PRIMARY KEY, person TEXT NOT NULL, name TEXT NOT NULL, record ",
            $blob,
            " NOT NULL,
                created ",
            $int,
            " NOT NULL, used ",
            $int,
            ")",
            $end,
            ";
            CREATE INDEX ssa_link_person ON ssa_link (person);
            CREATE TABLE ssa_trip (
                id TEXT PRIMARY KEY, browser TEXT NOT NULL, state ",
            $blob,
            " NOT NULL, exp ",
            $int,
            " NOT NULL)",
            $end,
            ";
            CREATE INDEX ssa_trip_exp ON ssa_trip (exp);"
        )
    };
}

const LINKS_SQLITE: &str = links!("INTEGER", "BLOB", " STRICT");
const LINKS_POSTGRES: &str = links!("BIGINT", "BYTEA", "");

// Who is told when a call has its outcome; sealed, for it names the call. A row of `ssa_notice` waits to be sent.
macro_rules! notices {
    ($int:literal, $blob:literal, $end:literal) => {
        concat!(
            "ALTER TABLE ssa_later ADD COLUMN notice ",
            $blob,
            ";
            CREATE INDEX ssa_later_lease ON ssa_later (lease);
            CREATE TABLE ssa_notice (
                id TEXT PRIMARY KEY, client TEXT NOT NULL, notice ",
            $blob,
            " NOT NULL, failures ",
            $int,
            " NOT NULL,
                next ",
            $int,
            " NOT NULL, version ",
            $int,
            " NOT NULL)",
            $end,
            ";
            CREATE INDEX ssa_notice_next ON ssa_notice (next);"
        )
    };
}

const NOTICES_SQLITE: &str = notices!("INTEGER", "BLOB", " STRICT");
const NOTICES_POSTGRES: &str = notices!("BIGINT", "BYTEA", "");

// A row for each piece of software that registers clients, which they lock; `id` is a digest.
const SOFTWARE_SQLITE: &str =
    "CREATE TABLE ssa_software (id TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT;";
const SOFTWARE_POSTGRES: &str =
    "CREATE TABLE ssa_software (id TEXT PRIMARY KEY, n BIGINT NOT NULL);";

// As `bounds`, for devices that wait: 0 when what they asked for is forgotten.
macro_rules! more_bounds {
    ($int:literal) => {
        concat!(
            "ALTER TABLE ssa_device ADD COLUMN size ",
            $int,
            " NOT NULL DEFAULT 1;
            CREATE INDEX ssa_device_client ON ssa_device (client, exp, size);
            CREATE INDEX ssa_trip_browser ON ssa_trip (browser, exp);"
        )
    };
}

const MORE_BOUNDS_SQLITE: &str = more_bounds!("INTEGER");
const MORE_BOUNDS_POSTGRES: &str = more_bounds!("BIGINT");

// `software`: as what a client registered itself. `used`: whether it got a token. An index for calls that wait, by client.
macro_rules! of_software {
    ($int:literal) => {
        concat!(
            "ALTER TABLE ssa_client ADD COLUMN software TEXT;
            ALTER TABLE ssa_client ADD COLUMN used ",
            $int,
            " NOT NULL DEFAULT 1;
            CREATE INDEX ssa_client_software ON ssa_client (software);
            CREATE INDEX ssa_later_client ON ssa_later (client, exp);"
        )
    };
}

const OF_SOFTWARE_SQLITE: &str = of_software!("INTEGER");
const OF_SOFTWARE_POSTGRES: &str = of_software!("BIGINT");

// Who used a client first that registered itself. From here on `used` is when it last got a token, about; 0: it never did.
const FIRST_PERSON: &str = "ALTER TABLE ssa_client ADD COLUMN person TEXT;
    CREATE INDEX ssa_client_person ON ssa_client (software, person);";

// 1 when what was approved are hashes, and none is of a document.
const BARE_SQLITE: &str = "ALTER TABLE ssa_token ADD COLUMN bare INTEGER NOT NULL DEFAULT 0;";
const BARE_POSTGRES: &str = "ALTER TABLE ssa_token ADD COLUMN bare BIGINT NOT NULL DEFAULT 0;";

// 1 when a code was asked for in the words of version 1 of the CSC API: its token has another type.
const OF_V1_SQLITE: &str = "ALTER TABLE ssa_code ADD COLUMN v1 INTEGER NOT NULL DEFAULT 0;";
const OF_V1_POSTGRES: &str = "ALTER TABLE ssa_code ADD COLUMN v1 BIGINT NOT NULL DEFAULT 0;";
