//! What is done every minute, and when keys end: opened keys are let go of, here and in the device; devices are looked after, and what
//! couldn't be written of an error is tried again.

use crate::execute::on_thread;
use crate::module::Module;

impl Module {
    /// Lets go of keys that weren't used lately, and looks after the devices. To be called every minute, in every state.
    /// Answers whether calls hang in the device's library for so long that only a new process helps: end this one, and have
    /// it started again.
    pub async fn tidy(&self) -> bool {
        let opened_until = self.clock.now().plus(-self.config.key_cache_seconds);
        self.cache.expire(opened_until);
        self.let_go().await;
        self.keep_error().await;
        self.look_at_kept().await;
        self.tell_pins_hourly().await;
        let backend = self.backend.clone();
        let looked = on_thread(move || {
            backend.look();
            Ok(backend.stuck())
        });
        let stuck = looked.await.unwrap_or(false);
        self.tell_news().await;
        stuck
    }

    /// Has the device forget what isn't held ready here any more.
    pub(crate) async fn let_go(&self) {
        let backend = self.backend.clone();
        let done = on_thread(move || {
            backend.tidy();
            Ok(())
        });
        if let Err(fault) = done.await {
            tracing::warn!(%fault, "the device couldn't be asked to forget keys");
        }
    }

    /// The same, where values wait to leave: nobody waits for the device.
    pub(crate) fn let_go_soon(&self) {
        let backend = self.backend.clone();
        drop(tokio::task::spawn_blocking(move || backend.tidy()));
    }

    /// Alarms about devices that nobody was told of yet.
    pub(crate) async fn tell_news(&self) {
        for what in self.backend.news() {
            self.alarm(what).await;
        }
    }
}
