//! Where the API's attempts are admitted. What each costs is in [`doorward_core::throttle`].

use crate::asked::Headers;
use crate::client::Client;
use crate::routes::Api;
use doorward_core::SessionId;
use doorward_core::error::Result as Decided;
use doorward_core::throttle::{Admitted, Attempt};

impl Api {
    /// Admits a login by a view of the host's own, before it looks at the password. The device's token
    /// is `device_token`, or in a cookie. What is admitted must be settled.
    ///
    /// # Errors
    /// [`doorward_core::Error::TooManyAttempts`], [`doorward_core::Error::StoreUnavailable`].
    pub async fn admit(
        &self,
        username: &str,
        device_token: Option<&str>,
        headers: Headers<'_>,
        client: Client,
    ) -> Decided<Admitted> {
        let in_cookies = self.cookies().device.find(headers);
        let in_cookies = in_cookies.iter().map(|text| &**text);
        let devices: Vec<_> = device_token.into_iter().chain(in_cookies).collect();
        let login = Attempt::Login {
            username,
            devices: &devices,
            address: client.address,
        };
        self.throttle().admit(login).await
    }

    /// The session is the device: who took its access token guesses no more than the device may, and
    /// who fails at the login does not stand in its way.
    pub(crate) async fn admit_check(&self, session: SessionId) -> Decided<Admitted> {
        self.throttle().admit(Attempt::Confirm(session)).await
    }

    pub(crate) async fn admit_registration(&self, client: Client) -> Decided<Admitted> {
        let address = client.address;
        self.throttle().admit(Attempt::Register { address }).await
    }
}
