//! What hands do to a database and to an export.

use core_types::sha256;

use super::{Dice, EARLIER, Node, by_hand, close, copy, number, word};
use crate::kit::Files;

/// A manipulation of the database, and what its finding has to say (one of these).
pub(super) async fn in_the_database(
    node: &mut Node,
    kind: usize,
    dice: &mut Dice,
) -> (String, Vec<String>) {
    let bytes = if node.is_file() { "x'00'" } else { r"'\x00'" };
    let name = dice.pick(&["node-1", "node-2"]);
    let n = dice.below(250) + 20;
    let (this, next) = (format!("{name} #{n}"), format!("{name} #{}", n + 1));
    let here = format!("node = '{name}' AND n = {n}");
    let store = node.store().await;
    let seq = number(
        &store,
        &format!("SELECT seq AS x FROM audit_entry WHERE {here}"),
    )
    .await;
    let drop_places = "DROP INDEX audit_entry_seq".to_owned();
    let (statements, hits): (Vec<String>, Vec<String>) = match kind {
        0 => (
            vec![format!("UPDATE audit_entry SET body = replace(body, 'totp', 'none') WHERE {here}")],
            vec![this],
        ),
        1 => {
            let body = word(&store, &format!("SELECT body AS x FROM audit_entry WHERE {here}")).await;
            let body = body.replace("success", "failure");
            let leaf = sha256(&[&[0], body.as_bytes()]);
            (
                vec![format!("UPDATE audit_entry SET body = '{body}', leaf = '{leaf}' WHERE {here}")],
                vec![this],
            )
        }
        2 => {
            let column = dice.pick(&["at = at + 1", "kind = 'login.failed'", "person = NULL", "key_id = 'k'", "leaf = 'x'"]);
            (vec![format!("UPDATE audit_entry SET {column} WHERE {here}")], vec![this])
        }
        3 => (
            vec![format!("DELETE FROM audit_entry WHERE {here}")],
            vec![this, format!("place {seq} ")],
        ),
        4 => (
            vec![
                format!("DELETE FROM audit_entry WHERE {here}"),
                format!("UPDATE audit_entry SET n = 1 - n WHERE node = '{name}' AND n > {n}"),
                "UPDATE audit_entry SET n = -n WHERE n < 0".to_owned(),
                drop_places,
                format!("UPDATE audit_entry SET seq = seq - 1 WHERE seq > {seq}"),
            ],
            vec![this],
        ),
        5 => {
            let other = seq + 1;
            (
                vec![
                    drop_places,
                    format!("UPDATE audit_entry SET seq = {seq} + {other} - seq WHERE seq IN ({seq}, {other})"),
                ],
                // Neighbours of two nodes: both chains are whole, and the tree isn't.
                vec![this, next, "a checkpoint isn't that of the entries".to_owned()],
            )
        }
        6 => (
            // A node's end, with its head set back to what was one.
            vec![
                format!("UPDATE audit_head SET n = {n}, mac = (SELECT mac FROM audit_entry WHERE {here}) WHERE node = '{name}'"),
                format!("DELETE FROM audit_entry WHERE node = '{name}' AND n > {n}"),
            ],
            vec!["in place ".to_owned()],
        ),
        7 => {
            let mac = format!("mac = {bytes}");
            let set = dice.pick(&["n = n - 40", "n = n + 1", mac.as_str()]);
            (vec![format!("UPDATE audit_head SET {set} WHERE node = '{name}'")], vec![format!("{name} #")])
        }
        8 => (
            vec![format!("DELETE FROM audit_head WHERE node = '{name}'")],
            vec![format!("{name} #")],
        ),
        9 => {
            let size = number(&store, "SELECT size AS x FROM audit_checkpoint ORDER BY size LIMIT 1 OFFSET 1").await;
            (
                vec![format!("DELETE FROM audit_checkpoint WHERE size = {size}")],
                vec![format!("Checkpoint CheckpointMissing from {size} ")],
            )
        }
        10 => (
            vec!["UPDATE audit_checkpoint SET note = (SELECT max(note) FROM audit_checkpoint c WHERE c.size <> audit_checkpoint.size)".to_owned()],
            vec!["checkpoint isn't that of the entries".to_owned()],
        ),
        11 => {
            let set = dice.pick(&["UPDATE audit_subtree SET root = 'x' WHERE level = 1 AND n = 0", "DELETE FROM audit_subtree WHERE level = 1 AND n = 1"]);
            (vec![set.to_owned()], vec!["a part of it isn't that of the entries".to_owned()])
        }
        12 => {
            let set = dice.pick(&["DELETE FROM audit_tree", "UPDATE audit_tree SET version = version + 1", "UPDATE audit_tree SET state = '{}'"]);
            (vec![set.to_owned()], vec!["the sequencer's row".to_owned()])
        }
        13 => (
            // An entry of one's own at the end of a chain.
            vec![
                format!("INSERT INTO audit_entry (node, n, at, kind, person, body, leaf, mac) SELECT node, n + 1, at, kind, person, body, leaf, mac FROM audit_entry WHERE node = '{name}' ORDER BY n DESC LIMIT 1"),
                format!("UPDATE audit_head SET n = n + 1 WHERE node = '{name}'"),
            ],
            vec![format!("{name} #")],
        ),
        14 => {
            let salt = format!("UPDATE audit_person SET salt = {bytes} WHERE person = 'p3'");
            let set = dice.pick(&[
                "DELETE FROM audit_person WHERE person = 'p3'",
                "UPDATE audit_person SET person = 'somebody-else' WHERE person = 'p3'",
                salt.as_str(),
            ]);
            let alias = word(&store, "SELECT alias AS x FROM audit_person WHERE person = 'p3'").await;
            (vec![set.to_owned()], vec![format!("who {alias} in the audit log is")])
        }
        15 => (
            vec!["UPDATE audit_cosignature SET line = (SELECT max(line) FROM audit_cosignature c WHERE c.size <> audit_cosignature.size)".to_owned()],
            vec!["Checkpoint CosignatureWrong".to_owned()],
        ),
        16 => {
            // A server keeps what has another type out of a column.
            let column = match node.is_file() {
                true => dice.pick(&["body = CAST(body AS BLOB)", "mac = 'text'"]),
                false => "mac = 'text'",
            };
            (vec![format!("UPDATE audit_entry SET {column} WHERE {here}")], vec![this])
        }
        _ => {
            // The database as it was before.
            close(store).await;
            node.put_back().await;
            let hits = vec!["was set back".to_owned()];
            return ("the database is an older one".to_owned(), hits);
        }
    };
    by_hand(&store, &statements).await;
    close(store).await;
    (format!("{statements:?}"), hits)
}

pub(super) const IN_DATABASE: usize = 18;

/// A manipulation of the export, and what its finding has to say.
pub(super) fn in_the_export(node: &Node, kind: usize, dice: &mut Dice) -> (String, Vec<String>) {
    let dir = node.dir.path().join("export");
    let at = |name: &str| dir.join(name);
    let read = |name: &str| std::fs::read(at(name)).expect("a file");
    let seq = dice.below(256);
    let bundle = "tile/entries/001";
    let place = 256 + seq;
    let here = vec![format!("from {place} to {place} ")];
    let entries = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut list = Files::split(&read(bundle));
        change(&mut list);
        std::fs::write(at(bundle), Files::joined(&list)).expect("a file");
    };
    let index = usize::try_from(seq).expect("small");
    let (what, hits) = match kind {
        0 => {
            entries(&|list| {
                let text = String::from_utf8_lossy(&list[index]).replace("totp", "none");
                list[index] = text.into_bytes();
            });
            ("an entry is edited", here)
        }
        1 => {
            entries(&|list| drop(list.remove(index)));
            (
                "an entry is deleted",
                vec![format!("from {place} to "), "Truncated".to_owned()],
            )
        }
        2 => {
            let other = (index + 1) % 256;
            entries(&|list| list.swap(index, other));
            let first = 256 + index.min(other);
            (
                "entries are swapped",
                vec![format!("from {first} to {first} ")],
            )
        }
        3 => {
            entries(&|list| list.truncate(index));
            ("a bundle is cut", vec![format!("Truncated from {place} ")])
        }
        4 => {
            let tile = dice.pick(&["tile/0/001", "tile/1/000.p/2"]);
            let other = dice.pick(&["", "folder", "endless"]);
            std::fs::remove_file(at(tile)).expect("a file");
            match other {
                "folder" => std::fs::create_dir(at(tile)).expect("a folder"),
                "endless" => std::os::unix::fs::symlink("/dev/zero", at(tile)).expect("a link"),
                _ => {}
            }
            ("a tile is replaced", vec!["Tile TileDiffers".to_owned()])
        }
        5 => {
            std::fs::copy(at("tile/0/000"), at("tile/0/001")).expect("a copy");
            (
                "a tile is another's",
                vec!["LeafDiffers from 256 ".to_owned()],
            )
        }
        6 => {
            std::fs::remove_dir_all(&dir).expect("a folder");
            copy(&node.dir.path().join("earlier"), &dir);
            (
                "the export is an older one",
                vec![format!("Truncated from {} ", EARLIER + 3)],
            )
        }
        7 => {
            let text = String::from_utf8(read("checkpoints.txt")).expect("text");
            let notes: Vec<&str> = text.split_inclusive("\n\n").collect();
            let notes: Vec<String> = notes.chunks(2).map(<[&str]>::concat).collect();
            let mut fewer = notes.clone();
            let gone = usize::try_from(dice.below(i64::try_from(notes.len() - 1).expect("few")))
                .expect("few");
            fewer.remove(gone);
            std::fs::write(at("checkpoints.txt"), fewer.concat()).expect("a file");
            (
                "a checkpoint is removed",
                vec!["CheckpointMissing".to_owned()],
            )
        }
        8 => {
            std::fs::copy(node.dir.path().join("earlier/checkpoint"), at("checkpoint"))
                .expect("a copy");
            (
                "the last checkpoint is an older one",
                vec!["LatestDiffers".to_owned()],
            )
        }
        9 => {
            let other = audit_log::LogKey::from_seed(
                "log.example/sam",
                &core_types::SecretBytes::new(vec![7; 32]),
            );
            std::fs::write(at("log.pub"), other.expect("a key").public() + "\n").expect("a file");
            ("the key is another", vec!["Key KeyDiffers".to_owned()])
        }
        10 => {
            let name = dice.pick(&[
                "tile/entries/003",
                "tile/entries/002.p/200",
                "tile/entries/more",
                "tile/9/000",
            ]);
            std::fs::create_dir_all(at(name).parent().expect("a folder")).expect("a folder");
            std::fs::write(at(name), read(bundle)).expect("a file");
            (
                "a file is put in",
                vec![format!("File Stray from -1 to -1 node  #0 file {name}")],
            )
        }
        11 => {
            std::fs::remove_dir_all(at("tile")).expect("a folder");
            std::fs::write(at("checkpoints.txt"), "").expect("a file");
            std::fs::write(at("checkpoint"), "").expect("a file");
            (
                "the export is emptied",
                vec!["Truncated from 0 ".to_owned()],
            )
        }
        12 => {
            let name = dice.pick(&["checkpoints.txt", "checkpoint", "log.pub"]);
            std::fs::remove_file(at(name)).expect("a file");
            (
                "a file is removed",
                vec![format!("FileMissing from -1 to -1 node  #0 file {name}")],
            )
        }
        13 => {
            for name in ["checkpoint", "checkpoints.txt"] {
                let text = String::from_utf8(read(name)).expect("text");
                let own = text
                    .split_inclusive('\n')
                    .filter(|line| !line.contains("witness.example"));
                std::fs::write(at(name), own.collect::<String>()).expect("a file");
            }
            (
                "the cosignatures are removed",
                vec!["a witness is silent".to_owned()],
            )
        }
        14 => {
            std::fs::remove_dir_all(&dir).expect("a folder");
            copy(&node.dir.path().join("fork"), &dir);
            (
                "the export is another log under the same key",
                vec!["Witness Forked".to_owned()],
            )
        }
        _ => {
            let mut list = Files::split(&read(bundle));
            let text = String::from_utf8_lossy(&list[index]).replace("\"sam\"", "\"ssa\"");
            list[index] = text.into_bytes();
            let mut tile = read("tile/0/001");
            tile[index * 32..][..32].copy_from_slice(&sha256(&[&[0], &list[index]]).0);
            std::fs::write(at("tile/0/001"), tile).expect("a file");
            std::fs::write(at(bundle), Files::joined(&list)).expect("a file");
            ("an entry is another log's, with its hash", here)
        }
    };
    (what.to_owned(), hits)
}

pub(super) const IN_EXPORT: usize = 16;
