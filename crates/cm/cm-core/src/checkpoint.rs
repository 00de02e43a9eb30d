//! Checkpoints of logs, by keys that sign nothing else.
//!
//! They are no orders that happen once: a checkpoint says what is so, and the same one may be signed again. The first time it
//! goes into the module's log, so that a restore knows the last one and the key goes on from there.

use audit_log::Event;
use cm_api::{Executed, ModuleError, SignItem};
use core_types::{Digest32, KeyId, SigAlg};
use store_kit::transaction;

use crate::attributes::Tree;
use crate::module::Module;
use crate::store::{self, Failed};

impl Module {
    pub(crate) async fn checkpoint(
        &self,
        key: &KeyId,
        spki: Digest32,
        tree: Tree,
    ) -> Result<Executed, ModuleError> {
        let now = self.clock.now();
        let alg = SigAlg::Ed25519;
        let done: Result<_, Failed> = transaction!(self.store, "cm-checkpoint", |tx| {
            let row = self.key_for_use(tx, key, 1, spki).await?;
            let (next, origin) = row.attributes.after_checkpoint(tree, now)?;
            let text = audit_log::checkpoint_text(origin, tree.size, &tree.root);
            self.approved(row.attributes.alg, alg)?;
            let mut version = row.row_version;
            if next != row.attributes {
                store::update_key(tx, &self.vault, self.random.as_ref(), &row, &next).await?;
                version += 1;
                let (key, Tree { size, root }) = (key.clone(), tree);
                let event = Event::CheckpointSigned { key, size, root };
                self.audit.append(tx, event, now).await?;
            }
            Ok::<_, Failed>((row, text, version))
        });
        let (row, text, version) = done.map_err(|failed| self.fail(failed))?;
        self.seen.note(key.as_str(), version);
        let item = SignItem::of_message(0, alg, text.as_bytes());
        // It is asked for again, and not waited for.
        self.values(&row, alg, std::slice::from_ref(&item), None)
            .await
    }
}
