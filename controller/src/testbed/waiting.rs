//! Waiting for what comes about by itself.

use std::time::Duration;

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::tree::TreeView;

use super::{BOUND, House};

impl House {
    /// Waits, within a bound, for a load balancer to be as it should.
    pub(crate) async fn until(
        &self,
        id: LoadBalancerId,
        what: &str,
        is: impl Fn(&TreeView) -> bool,
    ) -> TreeView {
        let wait = async {
            loop {
                if let Some(view) = self.view(id).await.filter(&is) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, wait)
            .await
            .unwrap_or_else(|_| panic!("it never was {what}"))
    }

    /// Waits, within a bound, for a load balancer to be gone.
    pub(crate) async fn until_gone(&self, id: LoadBalancerId) {
        let wait = async {
            while self.view(id).await.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, wait)
            .await
            .expect("it never was gone");
    }
}
