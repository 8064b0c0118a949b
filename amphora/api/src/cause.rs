//! Why requests and connections fail: a closed list, each with the side at fault.

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The load balancer: what it was told to refuse, or what it lacked.
    LoadBalancer,
    /// The way to the member.
    Network,
    /// The member.
    Member,
}

impl Side {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::LoadBalancer => "load_balancer",
            Self::Network => "network",
            Self::Member => "member",
        }
    }
}

macro_rules! causes {
    ($($id:ident $side:ident $name:literal $help:literal;)*) => {
        /// Why a request or a connection failed. Names never change their meaning; new ones may come.
        ///
        /// Those of tries to reach or use a member come first, so that a member's counters need no others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Cause {
            $(#[doc = $help] $id,)*
        }

        impl Cause {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// What it is called in logs, metrics and headers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$id => $name),* }
            }

            /// Who is at fault.
            #[must_use]
            pub const fn side(self) -> Side {
                match self { $(Self::$id => Side::$side),* }
            }

            /// What happened, as a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$id => $help),* }
            }
        }
    };
}

causes! {
    MemberRefused Member "member_refused"
        "The member's host refused the connection: nobody listens on that port.";
    MemberConnectTimeout Network "member_connect_timeout"
        "Nothing answered an attempt to connect within the time for it: the host is down, or a filter drops.";
    MemberUnreachable Network "member_unreachable"
        "The network said that there is no way to the member.";
    MemberTls Member "member_tls"
        "The handshake of TLS with the member failed: it speaks none, or nothing that the pool does.";
    MemberTlsUntrusted Member "member_tls_untrusted"
        "None of the pool's authorities vouches for the certificate that the member showed.";
    MemberTlsExpired Member "member_tls_expired"
        "The certificate that the member showed, or one above it, has ended or has not begun.";
    MemberTlsRevoked Member "member_tls_revoked"
        "The certificate that the member showed is revoked, or no list that is up to date says that it is not.";
    MemberTlsName Member "member_tls_name"
        "The certificate that the member showed is not for the name that the client asked for.";
    MemberTlsRefused Member "member_tls_refused"
        "The member ended the handshake of TLS: it wants another certificate or name, speaks nothing that the pool does, or no TLS.";
    MemberTlsTimeout Member "member_tls_timeout"
        "The member did not end the handshake of TLS within the time for connecting.";
    MemberResetBeforeAnswer Member "member_reset_before_answer"
        "The member broke the connection off before its answer began, or before the head of it was complete.";
    MemberResetMidAnswer Member "member_reset_mid_answer"
        "The member broke the connection off in the middle of its answer.";
    MemberMalformed Member "member_malformed"
        "What the member answered is no HTTP, or an answer to something else.";
    MemberTimeout Member "member_timeout"
        "The member did not answer within the time that it may be silent.";
    MemberStalled Member "member_stalled"
        "The member began to answer and then was silent for longer than it may be.";
    MemberBusy Member "member_busy"
        "The member had as many requests as it may have at once, and none of them ended in time for one more.";
    LbPortsExhausted LoadBalancer "lb_ports_exhausted"
        "This host had no port left for another connection to the member.";
    LbExhausted LoadBalancer "lb_exhausted"
        "This process had no descriptor or memory left.";
    LbNoMember LoadBalancer "lb_no_member"
        "There is no pool, or nobody in it who may be chosen.";
    LbLimit LoadBalancer "lb_limit"
        "The listener serves as many as it may, so a datagram was dropped or a session gave way (UDP only: other clients wait).";
    LbDeniedCidr LoadBalancer "lb_denied_cidr"
        "The client's address is not among the networks that are allowed.";
    LbRate LoadBalancer "lb_rate"
        "The client's network began connections more often than it may.";
    LbPolicyRejected LoadBalancer "lb_policy_rejected"
        "An L7 policy rejects the request.";
    LbDrained LoadBalancer "lb_drained"
        "The listener, the member or this process was leaving, and the time to finish was over.";
    LbInternal LoadBalancer "lb_internal"
        "An invariant was broken here: a bug of ours.";
    ClientBadRequest Client "client_bad_request"
        "What the client sent is no HTTP, or a request that cannot be sent on.";
    ClientHeadTooLarge Client "client_head_too_large"
        "The head of the client's request is too large.";
    ClientMethodRefused Client "client_method_refused"
        "The client used a method that is not served here.";
    ClientTimeoutHead Client "client_timeout_head"
        "The client began a request and did not finish its head in time.";
    ClientTimeoutBody Client "client_timeout_body"
        "The client did not send the rest of its request's body in time.";
    ClientTimeout Client "client_timeout"
        "The client neither sent nor took anything for longer than it may.";
    ClientGone Client "client_gone"
        "The client went away before it had its whole answer.";
    ClientNotTls Client "client_not_tls"
        "The client did not speak TLS where that is spoken.";
    ClientTlsVersion Client "client_tls_version"
        "The client speaks no version of TLS that the listener does.";
    ClientTlsCipher Client "client_tls_cipher"
        "The client speaks no cipher suite that the listener does, or none that fits its certificate.";
    ClientTlsAlpn Client "client_tls_alpn"
        "The client wants to speak something inside TLS that the listener does not.";
    ClientTlsName Client "client_tls_name"
        "The client asked for a name that the listener has no certificate for, or for none.";
    ClientTlsRefused Client "client_tls_refused"
        "The client ended the handshake of TLS with an alert: mostly it does not trust the listener's certificate.";
    ClientTlsGone Client "client_tls_gone"
        "The client went away in the middle of the handshake of TLS.";
    ClientTlsTimeout Client "client_tls_timeout"
        "The client began a handshake of TLS and did not end it in time.";
    ClientTlsMalformed Client "client_tls_malformed"
        "What the client sent in the handshake of TLS makes no sense.";
    ClientCertificateMissing Client "client_certificate_missing"
        "The client showed no certificate and has to.";
    ClientCertificateUntrusted Client "client_certificate_untrusted"
        "None of the listener's authorities vouches for the certificate that the client showed, or it is malformed.";
    ClientCertificateExpired Client "client_certificate_expired"
        "The certificate that the client showed, or one above it, has ended or has not begun.";
    ClientCertificateRevoked Client "client_certificate_revoked"
        "The certificate that the client showed is revoked, or no list that is up to date says that it is not.";
}

impl Cause {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// How many of them, the first ones, can befall a try to reach or use a member.
    pub const OF_MEMBERS: usize = Self::LbExhausted as usize;

    /// Its place in [`Cause::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_a_name_of_its_own_and_the_side_that_the_name_says() {
        for (place, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause.index(), place);
            assert_eq!(Cause::named(cause.name()), Some(*cause));
            let prefix = match cause.side() {
                Side::Client => "client_",
                Side::LoadBalancer => "lb_",
                Side::Network | Side::Member => "member_",
            };
            assert!(cause.name().starts_with(prefix), "{}", cause.name());
            assert!(cause.meaning().ends_with('.'));
        }
        assert_eq!(Cause::named("nonsense"), None);
        assert_eq!(Cause::ALL[Cause::OF_MEMBERS - 1], Cause::LbPortsExhausted);
    }
}
