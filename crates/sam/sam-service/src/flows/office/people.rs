//! What officers see: who holds which office, and how the SAM is.

use cm_api::CryptoModule;
use cm_api::rpc::{Empty, Status};
use sam_core::office::{Account, Deed, Officer};
use sap::office::calls::{
    AccountInfo, OfficeRefusal, OfficerInfo, PeopleAnswer, SessionRequest, StateAnswer,
};
use store_kit::sql;

use super::About;
use super::proposals::check_deed;
use crate::failed::Failed;
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Everybody who holds or held an office.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn people(&self, request: SessionRequest) -> Result<PeopleAnswer, OfficeRefusal> {
        let mut about = About::default();
        match self.try_people(&request, &mut about).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_office("people", about, &failed).await),
        }
    }

    /// How the SAM is.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn state(&self, request: SessionRequest) -> Result<StateAnswer, OfficeRefusal> {
        let mut about = About::default();
        match self.try_state(&request, &mut about).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.refused_office("state", about, &failed).await),
        }
    }

    async fn try_people(
        &self,
        request: &SessionRequest,
        about: &mut About,
    ) -> Result<PeopleAnswer, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        check_deed(&present.person, Deed::SeePeople, now)?;
        let mut tx = self.store.read("people").await?;
        let mut officers = Vec::new();
        for id in rows::ids::<Officer>(&mut tx).await? {
            let Some(row) = rows::get::<Officer>(&mut tx, &self.sealer, &id).await? else {
                continue;
            };
            let accounts = rows::by_owner::<Account>(&mut tx, &self.sealer, &id).await?;
            let due = row.body.is_due(now);
            let officer = row.body;
            officers.push(OfficerInfo {
                officer: officer.id,
                name: officer.name,
                office: officer.office,
                named_by: officer.named_by,
                since: officer.since,
                ended: officer.ended,
                due,
                accounts: accounts
                    .into_iter()
                    .map(|a| AccountInfo {
                        active: a.body.usable().is_ok(),
                        account: a.body.id,
                        last_act: a.body.last_act,
                    })
                    .collect(),
            });
        }
        let usable = self.usable_officers(&mut tx, now).await?.len();
        Ok(PeopleAnswer {
            officers,
            usable: u32::try_from(usable).unwrap_or(u32::MAX),
        })
    }

    async fn try_state(
        &self,
        request: &SessionRequest,
        about: &mut About,
    ) -> Result<StateAnswer, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        check_deed(&present.person, Deed::SeeState, now)?;
        let module = self.module.call::<Status>(&Empty {}).await;
        let mut tx = self.store.read("office-state").await?;
        let usable = self.usable_officers(&mut tx, now).await?.len();
        let count = sql("SELECT COUNT(*) AS n FROM office_proposal WHERE state = $1");
        let open = tx.fetch_one(count.bind("open")).await?.int("n")?;
        Ok(StateAnswer {
            sam: self.config.sam.clone(),
            node: self.config.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ceiling: self.service.ceiling,
            clock: self.check_clock().is_ok(),
            module: module
                .ok()
                .map(|health| format!("{:?}", health.state).to_lowercase()),
            usable: u32::try_from(usable).unwrap_or(u32::MAX),
            open: u32::try_from(open).unwrap_or(u32::MAX),
            settings: Vec::new(),
        })
    }
}
