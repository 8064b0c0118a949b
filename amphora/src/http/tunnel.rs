//! A client and a member that no longer speak HTTP.

use std::cell::Cell;

use bytes::Bytes;
use krater_amphora_api::Cause;

use crate::{
    access::Draft,
    local::Guest,
    relay::{Outcome, Relay, Side},
    upstream::Tunnel,
    wire::Wire,
};

/// Joins them until both have ended.
pub(super) async fn join(
    guest: &Guest,
    (client, client_rest): (Wire, Bytes),
    tunnel: Tunnel,
    draft: Option<Draft>,
) {
    let Tunnel {
        wire,
        link,
        rest,
        place: _place,
    } = tunnel;
    guest.is_with(Some(link.member.serial));
    let (listener, member) = (guest.seat.lane(), link.lane());
    let passage = Passage {
        guest,
        draft,
        bytes_in: Cell::new(0),
        bytes_out: Cell::new(0),
        cause: Cell::new(Some(Cause::LbDrained)),
    };
    let outcome = Relay::new(client, wire, guest.seat.state.listener.timeouts)
        .with_rest(Side::Client, &rest)
        .with_rest(Side::Member, &client_rest)
        .run(
            &guest.local.scratch,
            |side, bytes| match side {
                Side::Client => {
                    listener.bytes_in.add(bytes);
                    passage.bytes_in.set(passage.bytes_in.get() + bytes);
                }
                Side::Member => member.bytes_in.add(bytes),
            },
            |side, bytes| match side {
                Side::Client => {
                    listener.bytes_out.add(bytes);
                    passage.bytes_out.set(passage.bytes_out.get() + bytes);
                }
                Side::Member => member.bytes_out.add(bytes),
            },
        )
        .await;
    let cause = match outcome {
        Outcome::Done => None,
        Outcome::Broken(Side::Client) => Some(Cause::ClientGone),
        Outcome::Broken(Side::Member) => Some(Cause::MemberResetMidAnswer),
        Outcome::Idle(Side::Client) => Some(Cause::ClientTimeout),
        Outcome::Idle(Side::Member) => Some(Cause::MemberStalled),
    };
    passage.cause.set(cause);
    if let Some(cause) = cause {
        link.count(cause);
    }
}

/// A tunnel, counted and told of when it ends.
struct Passage<'a> {
    guest: &'a Guest,
    draft: Option<Draft>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Why it failed, if it did. Until it is known it may be cut from outside.
    cause: Cell<Option<Cause>>,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let cause = self.cause.get();
        if let Some(cause) = cause {
            self.guest.seat.lane().failures.count(cause);
        }
        if let Some(draft) = &mut self.draft {
            draft.note(|record| {
                record.cause = cause;
                record.bytes_in += self.bytes_in.get();
                record.bytes_out += self.bytes_out.get();
            });
        }
    }
}
