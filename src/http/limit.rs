//! Rate limits of an instance: issuing per principal, failed authentication per client address. Off
//! by default, because nginx limits requests.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::principal::{Principal, PrincipalId};

/// Bound of remembered client addresses. While that many are known, all addresses share one budget.
const MAX_ADDRESSES: usize = 65_536;
/// Bound of remembered users of JWTs. While that many are known, all users share one budget.
const MAX_USERS: usize = 65_536;
/// Key of the budget that all users share while the table is full.
const EVERY_OTHER_USER: u64 = 0;
/// Key of the budget that all addresses share while the table is full.
const EVERYONE_ELSE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// A rate limiter with a budget for each key.
type Keyed<K, C> = RateLimiter<K, DefaultKeyedStateStore<K>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The limiters of one instance. Tests replace the clock.
#[derive(Default)]
pub struct Limits<C: Clock = DefaultClock> {
    issue: Option<Keyed<PrincipalId, C>>,
    /// By a hash of issuer and subject.
    issue_to_user: Option<Keyed<u64, C>>,
    hasher: RandomState,
    failed_auth: Option<Keyed<IpAddr, C>>,
}

impl Limits {
    /// Configured limits; `None`: no limit.
    #[must_use]
    pub fn new(issue_per_second: Option<u32>, failed_auth_per_minute: Option<u32>) -> Self {
        Self::with_clock(issue_per_second, failed_auth_per_minute, &DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with_clock(issue_per_second: Option<u32>, failed_auth_per_minute: Option<u32>, clock: &C) -> Self {
        let quota = |value: Option<u32>| value.and_then(NonZeroU32::new);
        Self {
            issue: quota(issue_per_second)
                .map(|most| RateLimiter::dashmap_with_clock(Quota::per_second(most), clock.clone())),
            issue_to_user: quota(issue_per_second)
                .map(|most| RateLimiter::dashmap_with_clock(Quota::per_second(most), clock.clone())),
            hasher: RandomState::new(),
            failed_auth: quota(failed_auth_per_minute)
                .map(|most| RateLimiter::dashmap_with_clock(Quota::per_minute(most), clock.clone())),
        }
    }

    /// Takes one token from the budget of a principal, or of the user of its JWT, or returns the
    /// time until there is room.
    pub(super) fn issue(&self, principal: &Principal) -> Result<(), Duration> {
        let Some(user) = principal.user() else {
            return self.issue.as_ref().map_or(Ok(()), |limiter| check(limiter, principal.id()));
        };
        let Some(limiter) = &self.issue_to_user else { return Ok(()) };
        let is_known = limiter.len() < MAX_USERS;
        let user =
            if is_known { self.hasher.hash_one((principal.id(), &user.subject)) } else { EVERY_OTHER_USER };
        check(limiter, &user)
    }

    /// Forgets addresses and users with a full budget; called about once a second.
    pub fn shed(&self) {
        if let Some(limiter) = &self.failed_auth {
            limiter.retain_recent();
        }
        if let Some(limiter) = &self.issue_to_user {
            limiter.retain_recent();
        }
    }

    /// Counts a failed authentication, or returns the time until the next one is counted. The limit
    /// never refuses a valid credential, so an attacker behind a shared address locks nobody out.
    pub(super) fn failed_auth(&self, client: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.failed_auth else {
            return Ok(());
        };
        let key = if limiter.len() < MAX_ADDRESSES { site(client) } else { EVERYONE_ELSE };
        check(limiter, &key)
    }
}

/// All addresses of an IPv6 /64 count as one, because a client chooses among them freely (RFC 6177
/// §2).
fn site(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

fn check<K: Clone + Eq + std::hash::Hash, C: Clock>(limiter: &Keyed<K, C>, key: &K) -> Result<(), Duration> {
    limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(limiter.clock().now()))
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::clock::UnixMillis;
    use crate::principal::{Rights, User};
    use crate::token::Subject;
    use crate::topic::Patterns;

    /// Limits with a clock that the test moves.
    fn limits(
        issue_per_second: Option<u32>,
        failed_auth_per_minute: Option<u32>,
    ) -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limits::with_clock(issue_per_second, failed_auth_per_minute, &clock), clock)
    }

    fn principal(name: &str) -> Principal {
        Principal::new(PrincipalId::parse(name).unwrap(), Rights::all(), Patterns::all())
    }

    fn user_of(issuer: &str, subject: &str) -> Principal {
        let user = User { subject: Subject::parse(subject).unwrap(), until: UnixMillis(1) };
        Principal::of_user(PrincipalId::parse(issuer).unwrap(), Rights::all(), Patterns::all(), user)
    }

    #[test]
    fn each_user_of_an_issuer_has_a_budget_and_their_table_is_bounded() {
        let (limits, _) = limits(Some(1), None);
        for user in [user_of("a", "1"), user_of("a", "2"), user_of("b", "1")] {
            assert_eq!(limits.issue(&user), Ok(()));
            assert!(limits.issue(&user).is_err());
        }
        assert_eq!(limits.issue(&principal("a")), Ok(()), "the issuer's id is no user");
        for n in 0..MAX_USERS + 1000 {
            let _ = limits.issue(&user_of("a", &n.to_string()));
        }
        assert!(limits.issue_to_user.unwrap().len() <= MAX_USERS + 1);
    }

    #[test]
    fn a_principal_issues_exactly_as_many_tokens_a_second_as_configured() {
        let (limits, clock) = limits(Some(4), None);
        let [one, other] = ["one", "other"].map(principal);
        let issued = || (0..100).filter(|_| limits.issue(&one).is_ok()).count();
        assert_eq!(issued(), 4);
        assert_eq!(limits.issue(&one), Err(Duration::from_millis(250)));
        clock.advance(Duration::from_millis(249));
        assert_eq!(issued(), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(issued(), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(issued(), 4);
        clock.advance(Duration::from_mins(1));
        assert_eq!(issued(), 4, "a budget that is not used does not grow");
        assert_eq!(limits.issue(&other), Ok(()), "each principal has its own budget");
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let (limits, _) = limits(None, None);
        let principal = principal("one");
        assert!((0..10_000).all(|_| limits.issue(&principal).is_ok()));
    }

    #[test]
    fn each_address_has_its_own_budget_and_is_given_a_time_to_return() {
        let (limits, clock) = limits(None, Some(2));
        let address = |last| IpAddr::from([192, 0, 2, last]);
        assert!(limits.failed_auth(address(1)).is_ok());
        assert!(limits.failed_auth(address(1)).is_ok());
        assert_eq!(limits.failed_auth(address(1)), Err(Duration::from_secs(30)));
        assert!(limits.failed_auth(address(2)).is_ok());
        clock.advance(Duration::from_secs(30));
        assert!(limits.failed_auth(address(1)).is_ok());
        assert!(limits.failed_auth(address(1)).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_budget() {
        let (limits, _) = limits(None, Some(1));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(limits.failed_auth(address("2001:db8:0:1::1")).is_ok());
        assert!(limits.failed_auth(address("2001:db8:0:1:ffff::2")).is_err());
        assert!(limits.failed_auth(address("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let (limits, _) = limits(None, Some(1));
        for n in 0..66_536_u32 {
            let _ = limits.failed_auth(IpAddr::from(n.to_be_bytes()));
        }
        assert!(limits.failed_auth.unwrap().len() <= MAX_ADDRESSES + 1);
    }
}
