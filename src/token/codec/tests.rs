//! Tokens that are minted, read and damaged.

use proptest::prelude::*;

use super::*;
use crate::principal::Rights;
use crate::token::written;

const NOW: UnixMillis = UnixMillis(1_767_470_400_500);

fn principal(name: &str) -> PrincipalId {
    PrincipalId::parse(name).unwrap()
}

/// Principals with all rights for all topics.
fn known(ids: &[&PrincipalId]) -> Principals {
    let with_all = |id: &PrincipalId| Principal::new(id.clone(), Rights::all(), Patterns::all());
    Principals::new(ids.iter().map(|id| (with_all(id), id.as_str())))
}

/// Keys that sign for every principal, each made from a text.
fn codec(seeds: &[&str]) -> Codec {
    let keys: Vec<_> = seeds.iter().map(|seed| hex::encode(seed.repeat(32))).collect();
    Codec::new(SigningKeys::from_hex(keys.iter().map(String::as_str)).unwrap())
}

/// Keys that were derived from the credentials of principals.
fn derived(credentials: &[(&PrincipalId, &str)]) -> Codec {
    let credentials = credentials.iter().map(|(owner, secret)| ((*owner).clone(), secret.as_bytes()));
    Codec::new(SigningKeys::derived(credentials).unwrap())
}

fn lasting(seconds: u64) -> Claims {
    Claims { expires_at: NOW.seconds() + seconds, offline: false, nonce: Nonce::from_bits(1) }
}

fn claims() -> impl Strategy<Value = Claims> {
    (0..u64::from(LONGEST_LIFE_SECONDS), any::<bool>(), 0_u32..1 << 27).prop_map(|(life, offline, nonce)| {
        Claims { expires_at: NOW.seconds() + 1 + life, offline, nonce: Nonce::from_bits(nonce) }
    })
}

proptest! {
    #[test]
    fn what_was_minted_verifies_with_the_same_claims(claims in claims()) {
        let (codec, alice, bob) = (codec(&["k"]), principal("alice"), principal("bob"));
        let token = codec.mint(&bob, claims, None);
        let verified = codec.verify(&token.reveal(), NOW, &known(&[&alice, &bob])).unwrap();
        prop_assert_eq!(verified.claims, claims);
        prop_assert_eq!(verified.principal, bob);
    }

    #[test]
    fn every_one_bit_flip_is_refused(claims in claims()) {
        let (codec, alice) = (codec(&["k"]), principal("alice"));
        let (token, principals) = (codec.mint(&alice, claims, None), known(&[&alice]));
        for bit in 0..128 {
            let flipped = (u128::from_be_bytes(token.0) ^ 1 << bit).to_be_bytes();
            let outcome = codec.verify(&Token(flipped).reveal(), NOW, &principals);
            prop_assert!(outcome.is_err(), "bit {}", bit);
        }
    }

    #[test]
    fn arbitrary_uuids_are_never_accepted(bytes in any::<[u8; 16]>()) {
        let (codec, alice) = (codec(&["k"]), principal("alice"));
        prop_assert!(codec.verify(&Token(bytes).reveal(), NOW, &known(&[&alice])).is_err());
    }

    #[test]
    fn the_expiry_is_rebuilt_across_the_wrap_of_its_12_bits(start in 0_u64..1 << 40, life in 0_u64..=900, elapsed in 0_u64..2040) {
        let now = start + elapsed;
        let expires_at = start + life;
        prop_assert_eq!(nearest(expires_at % EXPIRY_MODULUS, now), expires_at);
    }
}

#[test]
fn a_token_lives_until_its_expiry_plus_the_skew_and_no_longer() {
    let (codec, alice) = (codec(&["k"]), principal("alice"));
    let claims = lasting(60);
    let text = codec.mint(&alice, claims, None).reveal();
    let at = |second| codec.verify(&text, UnixMillis(second * 1000), &known(&[&alice])).map(|_| ());
    assert_eq!(at(claims.expires_at + CLOCK_SKEW.as_secs() - 1), Ok(()));
    assert_eq!(at(claims.expires_at + CLOCK_SKEW.as_secs()), Err(CodecError::Expired));
    // The 12 bits then mean another second, which the tag does not cover.
    assert_eq!(at(claims.expires_at + 3000), Err(CodecError::Forged));
}

#[test]
fn a_token_that_lives_longer_than_any_instance_issues_is_refused() {
    let (codec, alice) = (codec(&["k"]), principal("alice"));
    let verify = |life, now: UnixMillis| {
        let text = codec.mint(&alice, lasting(life), None).reveal();
        codec.verify(&text, now, &known(&[&alice])).map(|verified| verified.claims.expires_at - NOW.seconds())
    };
    // NOW is half a second past, so a token of 900 s ends after 901 s, and for a clock that is
    // 2 s behind after 903 s.
    assert_eq!(verify(903, NOW), Ok(903));
    for too_long in [904, 950, 1500, 2047] {
        assert_eq!(verify(too_long, NOW), Err(CodecError::Forged), "{too_long}");
    }
    // At a whole second nothing was rounded up.
    let whole = UnixMillis(NOW.seconds() * 1000);
    assert_eq!(verify(902, whole), Ok(902));
    assert_eq!(verify(903, whole), Err(CodecError::Forged));
}

/// A grant that an instance gives to `principal` at the moment `issued_at`.
fn grant(principal: &PrincipalId, issued_at: UnixMillis) -> Grant {
    Grant {
        principal: principal.clone(),
        issued_at,
        subject: None,
        topics: Patterns::new(["orders/*"]).unwrap(),
        stream_until: None,
        single_use: false,
        resource: None,
    }
}

/// The text of a token with a grant, signed with the key of the principal that the grant names.
fn text_with(grant: &Grant, codec: &Codec, claims: Claims) -> String {
    let text = grant.encode().unwrap();
    written(&codec.mint(&grant.principal, claims, Some(&text)), Some(&text))
}

#[test]
fn a_token_may_read_the_topics_of_its_grant_and_without_a_grant_the_topic_default() {
    let (codec, alice) = (codec(&["k"]), principal("alice"));
    let verify = |text: &str| codec.verify(text, NOW, &known(&[&alice])).unwrap();
    let with = verify(&text_with(&grant(&alice, NOW), &codec, lasting(60)));
    assert_eq!(with.patterns(), Patterns::new(["orders/*"]).unwrap());
    assert_eq!(with.grant.as_deref(), Some(&grant(&alice, NOW)));
    assert_eq!((with.principal, with.claims), (alice.clone(), lasting(60)));
    let without = verify(&codec.mint(&alice, lasting(60), None).reveal());
    assert_eq!(without.patterns(), Patterns::default());
    assert_eq!(without.grant, None);
}

#[test]
fn a_token_with_a_grant_lives_until_its_expiry_plus_the_skew_and_no_longer() {
    let (codec, alice) = (codec(&["k"]), principal("alice"));
    let claims = lasting(60);
    let text = text_with(&grant(&alice, NOW), &codec, claims);
    let at = |second| codec.verify(&text, UnixMillis(second * 1000), &known(&[&alice])).map(|_| ());
    assert_eq!(at(claims.expires_at + CLOCK_SKEW.as_secs() - 1), Ok(()));
    assert_eq!(at(claims.expires_at + CLOCK_SKEW.as_secs()), Err(CodecError::Expired));
}

#[test]
fn a_time_of_issue_that_no_instance_writes_is_refused() {
    let (codec, alice) = (codec(&["k"]), principal("alice"));
    let verify = |life: u64, issued_at: u64| {
        let text = text_with(&grant(&alice, UnixMillis(issued_at)), &codec, lasting(life));
        codec.verify(&text, NOW, &known(&[&alice])).map(|_| ())
    };
    // The clock of the instance that issued it may be ahead.
    assert_eq!(verify(60, NOW.0 + 5000), Ok(()));
    // At most 902 s before the expiry, which is rounded up.
    let earliest = (NOW.seconds() + 60 - 903) * 1000 + 1;
    assert_eq!(verify(60, earliest), Ok(()));
    assert_eq!(verify(60, earliest - 1), Err(CodecError::Forged));
    assert_eq!(verify(60, 0), Err(CodecError::Forged));
    // Before the expiry.
    let expiry = (NOW.seconds() + 1) * 1000;
    assert_eq!(verify(1, expiry - 1), Ok(()));
    assert_eq!(verify(1, expiry), Err(CodecError::Forged));
}

#[test]
fn a_principal_signs_no_token_that_it_may_not_issue() {
    let alice = principal("alice");
    let codec = derived(&[(&alice, "a")]);
    let plain = codec.mint(&alice, lasting(60), None).reveal();
    let of_orders = text_with(&grant(&alice, NOW), &codec, lasting(60));
    let accepts = |rights: &[Right], topics: &[&str], text: &str| {
        let topics = Patterns::new(topics.iter().copied()).unwrap();
        let entry = Principal::new(alice.clone(), rights.iter().copied().collect(), topics);
        codec.verify(text, NOW, &Principals::new([(entry, "a")])).is_ok()
    };
    let issue = &[Right::Issue][..];
    assert!(accepts(issue, &["*"], &plain) && accepts(issue, &["*"], &of_orders));
    assert!(accepts(issue, &["default"], &plain) && !accepts(issue, &["default"], &of_orders));
    assert!(!accepts(issue, &["orders/*"], &plain) && accepts(issue, &["orders/*"], &of_orders));
    assert!(!accepts(issue, &["orders/1"], &of_orders));
    let others = [Right::Publish, Right::Subscribe, Right::Observe, Right::Control];
    for rights in [&others[..0], &others[..]] {
        assert!(!accepts(rights, &["*"], &plain) && !accepts(rights, &["*"], &of_orders));
    }
}

#[test]
fn a_grant_is_tried_with_the_keys_of_the_principal_that_it_names_and_of_no_other() {
    let (alice, bob) = (principal("alice"), principal("bob"));
    let both = derived(&[(&alice, "a"), (&bob, "b")]);
    let verify = |text: &str| {
        let verified = both.verify(text, NOW, &known(&[&alice, &bob]));
        verified.map(|verified| verified.principal)
    };
    let of_alice = text_with(&grant(&alice, NOW), &both, lasting(60));
    assert_eq!(verify(&of_alice), Ok(alice.clone()));
    // Bob signs for alice: with its key in her name, and with its key and name under her grant.
    let only_bob = derived(&[(&bob, "b")]);
    assert_eq!(verify(&text_with(&grant(&alice, NOW), &only_bob, lasting(60))), Err(CodecError::Forged));
    let text = grant(&alice, NOW).encode().unwrap();
    let token = both.mint(&bob, lasting(60), Some(&text));
    assert_eq!(verify(&written(&token, Some(&text))), Err(CodecError::Forged));
    // No instance without alice accepts her token.
    let configured = codec(&["k"]);
    let of_alice = text_with(&grant(&alice, NOW), &configured, lasting(60));
    let outcome = configured.verify(&of_alice, NOW, &known(&[&bob])).map(|_| ());
    assert_eq!(outcome, Err(CodecError::Forged));
}

#[test]
fn only_the_first_16_principals_have_tokens_without_a_grant() {
    let codec = codec(&["k"]);
    let ids: Vec<_> = (1..=17).map(|number| principal(&format!("p{number}"))).collect();
    let principals = known(&ids.iter().collect::<Vec<_>>());
    for (place, id) in ids.iter().enumerate() {
        let plain = codec.mint(id, lasting(60), None).reveal();
        assert_eq!(codec.verify(&plain, NOW, &principals).is_ok(), place < 16, "{id}");
        let with_grant = text_with(&grant(id, NOW), &codec, lasting(60));
        assert!(codec.verify(&with_grant, NOW, &principals).is_ok(), "{id}");
    }
}

#[test]
fn debug_output_of_a_verified_token_shows_no_part_of_its_text() {
    let (codec, alice) = (codec(&["k"]), principal("alice"));
    let text = text_with(&grant(&alice, NOW), &codec, lasting(60));
    let shown = format!("{:?}", codec.verify(&text, NOW, &known(&[&alice])).unwrap());
    // The three groups of 4 digits may occur by chance.
    let mut parts = text.split(['-', '.']).filter(|part| part.len() > 4);
    assert!(parts.all(|part| !shown.contains(part)), "{shown}");
}

#[test]
fn a_derived_key_signs_and_verifies_for_its_owner_only() {
    let (alice, bob) = (principal("alice"), principal("bob"));
    let (of_alice, of_bob) = (derived(&[(&alice, "a")]), derived(&[(&bob, "b")]));
    let both = derived(&[(&alice, "a"), (&bob, "b")]);
    let verify = |codec: &Codec, token: Token| {
        let verified = codec.verify(&token.reveal(), NOW, &known(&[&alice, &bob]));
        verified.map(|verified| verified.principal)
    };
    for (who, own, other) in [(&alice, &of_alice, &of_bob), (&bob, &of_bob, &of_alice)] {
        let issued = both.mint(who, lasting(60), None);
        assert_eq!(verify(&both, issued).as_ref(), Ok(who));
        assert_eq!(verify(own, issued).as_ref(), Ok(who), "signed with the key of its principal");
        assert_eq!(verify(other, issued), Err(CodecError::Forged));
        // Signed by who holds the other's credential.
        assert_eq!(verify(&both, other.mint(who, lasting(60), None)), Err(CodecError::Forged));
    }
}

#[test]
fn of_several_credentials_of_a_principal_the_first_signs_and_all_verify() {
    let (alice, bob) = (principal("alice"), principal("bob"));
    let both = derived(&[(&bob, "b"), (&alice, "new"), (&alice, "old")]);
    let (old, new) = (derived(&[(&alice, "old")]), derived(&[(&alice, "new")]));
    let accepts =
        |codec: &Codec, token: Token| codec.verify(&token.reveal(), NOW, &known(&[&bob, &alice])).is_ok();
    let issued = both.mint(&alice, lasting(60), None);
    assert!(accepts(&new, issued) && !accepts(&old, issued));
    assert!(accepts(&both, old.mint(&alice, lasting(60), None)));
    assert!(accepts(&both, new.mint(&alice, lasting(60), None)));
}

#[test]
fn a_configured_key_signs_for_every_principal() {
    let codec = codec(&["k"]);
    for name in ["alice", "bob"] {
        let text = codec.mint(&principal(name), lasting(60), None).reveal();
        assert!(codec.verify(&text, NOW, &known(&[&principal(name)])).is_ok(), "{name}");
    }
}

#[test]
fn a_token_for_a_principal_without_a_key_is_accepted_nowhere() {
    let (alice, stranger) = (principal("alice"), principal("stranger"));
    let codec = derived(&[(&alice, "a")]);
    let text = codec.mint(&stranger, lasting(60), None).reveal();
    let outcome = codec.verify(&text, NOW, &known(&[&alice, &stranger])).map(|_| ());
    assert_eq!(outcome, Err(CodecError::Forged));
}

#[test]
fn another_principal_or_key_does_not_verify() {
    let alice = principal("alice");
    let claims = Claims { expires_at: NOW.seconds() + 60, offline: true, nonce: Nonce::from_bits(9) };
    let text = codec(&["k"]).mint(&alice, claims, None).reveal();
    let verify = |codec: &Codec, who: &PrincipalId| codec.verify(&text, NOW, &known(&[who])).map(|_| ());
    assert_eq!(verify(&codec(&["k"]), &alice), Ok(()));
    assert_eq!(verify(&codec(&["k"]), &principal("mallory")), Err(CodecError::Forged));
    assert_eq!(verify(&codec(&["other"]), &alice), Err(CodecError::Forged));
}

#[test]
fn during_a_rotation_old_and_new_keys_both_verify() {
    let alice = principal("alice");
    let (old, both) = (codec(&["old"]), codec(&["new", "old"]));
    for issuer in [&old, &both] {
        let text = issuer.mint(&alice, lasting(60), None).reveal();
        assert!(both.verify(&text, NOW, &known(&[&alice])).is_ok());
    }
}
