//! The bytes of the answer, held against a checksum and a reading of options that share no code with the builder.

extern crate std;
use std::vec::Vec;

use super::*;
use crate::syn::syn_policy;
use proptest::prelude::*;

const SETTINGS: SynSettings = SynSettings {
    policy: syn_policy::ALWAYS,
    threshold: 1,
    release: 0,
    hold_ms: 1,
    mtu: 1_500,
    options: SYN_TIMESTAMPS | 9,
};

fn raw(options: &[u8]) -> RawOptions {
    let mut bytes = [0; MAX_OPTIONS];
    bytes[..options.len()].copy_from_slice(options);
    RawOptions { bytes }
}

/// Linux: MSS 1460, SACK, timestamps, NOP, window scale 7.
const LINUX: [u8; 20] = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 1, 3, 3, 7];

fn parsed(mss: u16, scale: Option<u8>, sack: bool, tsval: Option<u32>) -> SynOptions {
    SynOptions {
        tsval: tsval.unwrap_or(0),
        mss,
        scale: scale.unwrap_or(0),
        scales: scale.is_some().into(),
        sack: sack.into(),
        timestamps: tsval.is_some().into(),
        pad: [0; 2],
    }
}

#[test]
fn options_are_read() {
    let rows: &[(&str, &[u8], SynOptions)] = &[
        ("none", &[], SynOptions::default()),
        ("Linux", &LINUX, parsed(1_460, Some(7), true, Some(0x1122_3344))),
        ("Windows", &[2, 4, 0x05, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2], parsed(1_460, Some(8), true, None)),
        ("end stops", &[2, 4, 2, 0, 0, 4, 2], parsed(512, None, false, None)),
        ("unknown kinds are skipped", &[30, 6, 9, 9, 9, 9, 4, 2], parsed(0, None, true, None)),
        ("a scale beyond 14 is 14", &[3, 3, 200], parsed(0, Some(14), false, None)),
        ("a length of 0 ends the list", &[2, 0, 4, 2], SynOptions::default()),
        ("a length of 1 ends the list", &[9, 1, 4, 2], SynOptions::default()),
        ("a length beyond the header ends the list", &[4, 2, 9, 60, 2, 4, 5, 5], parsed(0, None, true, None)),
        ("a wrong length is not that option", &[2, 3, 5, 4, 2, 3, 4, 7, 7], parsed(0, None, true, None)),
    ];
    for (what, bytes, want) in rows {
        assert_eq!(parse_options(&raw(bytes)), *want, "{what}");
    }
    let full: Vec<u8> = core::iter::repeat_n(1, 36).chain([2, 4, 1, 2]).collect();
    assert_eq!(parse_options(&raw(&full)).mss, 0x0102, "the last bytes of the longest header");
    assert_eq!(parse_options(&raw(&[1; MAX_OPTIONS])), SynOptions::default());
}

/// RFC 1071 the slow way: wide sum over bytes, folded until nothing is left to fold.
fn checksum(bytes: &[u8]) -> u16 {
    let mut total: u64 = 0;
    for (index, byte) in bytes.iter().enumerate() {
        total += u64::from(*byte) * if index % 2 == 0 { 256 } else { 1 };
    }
    while total > 0xffff {
        total = total / 0x1_0000 + total % 0x1_0000;
    }
    total as u16
}

fn pseudo_header(source: &[u8], destination: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = [source, destination].concat();
    bytes.extend([0, 0]);
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend([0, 6]);
    bytes
}

fn syn_header(sport: u16, dport: u16, seq: u32) -> [u8; TCP_HEADER] {
    let mut header = [0; TCP_HEADER];
    header[..2].copy_from_slice(&sport.to_be_bytes());
    header[2..4].copy_from_slice(&dport.to_be_bytes());
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[12] = 0xa0;
    header[13] = 0x02;
    header
}

#[test]
fn the_long_answer_byte_for_byte() {
    let options = parse_options(&raw(&LINUX));
    let syn = syn_header(0xc001, 443, u32::MAX);
    let mut exchange = Exchange { tcp: syn, raw: raw(&LINUX), settings: SETTINGS, ..Exchange::EMPTY };
    exchange.prepare(false);
    assert_eq!(exchange.options, options);
    assert_eq!(exchange.answer(false, 0xaabb_ccdd, 0x0102_0300), LONG_HEADER);
    let mut tcp = exchange.reply_tcp;
    [tcp[16], tcp[17]] = [0; 2]; // the checksum has tests of its own
    let want: [u8; LONG_HEADER] = [
        0x01, 0xbb, 0xc0, 0x01, 0xaa, 0xbb, 0xcc, 0xdd, 0, 0, 0, 0, 0xa0, 0x12, 0xfa, 0xf0, 0, 0, 0,
        0, // fixed part
        2, 4, 0x05, 0xb4, 4, 2, 8, 10, // MSS, SACK, timestamps:
        0x01, 0x02, 0x02, 0xd7, // not ahead of the clock: 0x300 - 0x40, SACK | scale 7
        0x11, 0x22, 0x33, 0x44, 1, 3, 3, 9,
    ];
    assert_eq!(tcp, want);
}

#[test]
fn what_the_client_lacks_is_not_offered() {
    let none = parsed(0, None, false, Some(5));
    let answer = |options, settings, v6, now| {
        let mut exchange = Exchange { tcp: syn_header(1, 2, 3), options, settings, ..Exchange::EMPTY };
        // What an earlier answer left must not show.
        exchange.reply_tcp = [0xee; LONG_HEADER];
        (exchange.answer(v6, 4, now), exchange.reply_tcp)
    };
    let (_, tcp) = answer(none, SETTINGS, true, 0x1fff);
    assert_eq!(tcp[20..28], [2, 4, 0x05, 0xa0, 1, 1, 8, 10], "IPv6 takes 60 bytes of 1,500");
    assert_eq!(tcp[28..32], 0x1fcf_u32.to_be_bytes(), "no SACK, no scale");
    assert_eq!(tcp[36..], [1; 4]);
    for (options, settings) in
        [(parsed(9, Some(1), true, None), SETTINGS), (none, SynSettings { options: 9, ..SETTINGS })]
    {
        let (length, tcp) = answer(options, settings, false, 5);
        assert_eq!((length, tcp[12]), (SHORT_HEADER, 0x60), "without timestamps the MSS is all that a cookie holds");
        assert_eq!(tcp[SHORT_HEADER..], [0; LONG_HEADER - SHORT_HEADER]);
    }
}

#[test]
fn the_cookie_is_made_over_the_client_s_mss() {
    let syn = syn_header(1, 2, 3);
    for (mss, v6, want) in [(1_200, false, 1_200_u16), (0, false, 536), (0, true, 1_220)] {
        let header = cookie_header(syn, &parsed(mss, None, false, None), v6);
        assert_eq!(header[..12], syn[..12]);
        assert_eq!((header[12], header[13]), (0x60, 0x02));
        assert_eq!(header[20..], [&[2, 4], &want.to_be_bytes()[..]].concat());
    }
}

proptest! {
    #[test]
    fn answers_are_whole(
        addresses in any::<[u8; 8]>(), addresses6 in any::<[u8; 32]>(), ports in any::<[u16; 2]>(), seq in any::<u32>(),
        cookie in any::<u32>(), now in any::<u32>(), mss in any::<u16>(), scale in prop::option::of(0_u8..=14),
        sack in any::<bool>(), tsval in prop::option::of(any::<u32>()), offer in any::<bool>(), mtu in 576_u32..70_000,
    ) {
        let options = parsed(mss, scale, sack, tsval);
        let settings = SynSettings { mtu, options: if offer { SETTINGS.options } else { 0 }, ..SETTINGS };
        let syn = syn_header(ports[0], ports[1], seq);

        let mut exchange = Exchange { tcp: syn, options, settings, ..Exchange::EMPTY };
        exchange.ip[12..IPV4_HEADER].copy_from_slice(&addresses);
        let length = exchange.answer(false, cookie, now);
        let (answer, tcp) = (&exchange.reply_ip[..IPV4_HEADER], exchange.reply_tcp);
        prop_assert_eq!(checksum(answer), 0xffff);
        prop_assert_eq!((&answer[12..16], &answer[16..]), (&addresses[4..], &addresses[..4]));
        prop_assert_eq!(u16::from_be_bytes([answer[2], answer[3]]) as usize, IPV4_HEADER + length);
        let mut covered = pseudo_header(&answer[12..16], &answer[16..], length);
        covered.extend(&tcp[..length]);
        prop_assert_eq!(checksum(&covered), 0xffff);

        let mut exchange = Exchange { tcp: syn, options, settings, ..Exchange::EMPTY };
        exchange.ip[8..].copy_from_slice(&addresses6);
        let length6 = exchange.answer(true, cookie, now);
        let (answer, tcp6) = (exchange.reply_ip, exchange.reply_tcp);
        prop_assert_eq!((&answer[8..24], &answer[24..]), (&addresses6[16..], &addresses6[..16]));
        let mut covered = pseudo_header(&answer[8..24], &answer[24..], length6);
        covered.extend(&tcp6[..length6]);
        prop_assert_eq!(checksum(&covered), 0xffff);

        // The options read back as what was asked for, and the timestamp is never ahead of the clock.
        let mut bytes = [0; MAX_OPTIONS];
        bytes[..LONG_HEADER - TCP_HEADER].copy_from_slice(&tcp[TCP_HEADER..]);
        let back = parse_options(&RawOptions { bytes });
        prop_assert_eq!(u32::from(back.mss), (mtu - 40).min(0xffff));
        prop_assert_eq!(back.timestamps != 0, offer && tsval.is_some());
        if back.timestamps != 0 {
            prop_assert_eq!((back.sack != 0, back.scales != 0), (sack, scale.is_some()));
            prop_assert!(now < 64 || back.tsval <= now && now - back.tsval < 128);
            prop_assert_eq!(back.tsval & 0xf, scale.map_or(0xf, u32::from));
            prop_assert_eq!(back.tsval & 0x10 != 0, sack);
        }
        prop_assert_eq!(u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]), seq.wrapping_add(1));
    }

    #[test]
    fn any_options_are_read(bytes in any::<[u8; MAX_OPTIONS]>()) {
        let options = parse_options(&RawOptions { bytes });
        prop_assert!(options.scale <= 14);
        prop_assert_eq!(options.pad, [0; 2]);
    }
}
