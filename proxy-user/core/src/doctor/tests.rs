//! Facts in, findings out.

use super::*;

fn good() -> Facts {
    Facts {
        release: "6.1.0-18-amd64".to_owned(),
        btf: true,
        jit: Some(1),
        bpffs: true,
        pins: "/sys/fs/bpf/tidegate".to_owned(),
        features: vec![("ring buffer", Ok(true))],
        syncookies: Some(1),
        somaxconn: Some(4_096),
        files: (1_024, 524_288),
        heartbeat: Some((900, Some(30_000))),
        clock: Some("tsc".to_owned()),
        interfaces: vec![interface()],
        ..Facts::default()
    }
}

fn interface() -> Interface {
    Interface {
        name: "eth0".to_owned(),
        exists: true,
        up: true,
        driver: Some("ixgbe".to_owned()),
        mtu: 1_500,
        lro: Some(false),
        rp_filter: Some(0),
        ..Interface::default()
    }
}

fn program(name: Option<&str>, mode: &str, ours: bool) -> Program {
    Program { id: 7, name: name.map(str::to_owned), mode: mode.to_owned(), ours }
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    let findings = judge(&good());
    assert!(findings.iter().all(|f| f.level == Level::Ok && f.mend.is_none()), "{findings:?}");
    assert!(!fails(&findings));
}

/// Each fault by itself: exactly its line changes, to that level, and says something to do.
#[test]
fn each_fault_has_its_line() {
    type Break = fn(&mut Facts);
    let rows: [(&str, Level, Break); 30] = [
        ("kernel", Level::Warn, |f| f.release = "5.14.0-70.el9".to_owned()),
        ("kernel", Level::Warn, |f| f.release = "unknown".to_owned()),
        ("btf", Level::Fail, |f| f.btf = false),
        ("jit", Level::Warn, |f| f.jit = Some(0)),
        ("bpffs", Level::Warn, |f| f.bpffs = false),
        ("ring buffer", Level::Fail, |f| f.features = vec![("ring buffer", Ok(false))]),
        ("ring buffer", Level::Warn, |f| f.features = vec![("ring buffer", Err("not permitted".to_owned()))]),
        ("capabilities", Level::Fail, |f| f.missing_capabilities = vec!["CAP_BPF"]),
        ("eth0: bond", Level::Warn, |f| f.interfaces[0].stacked = Some(Stacked::Bond { native: false })),
        ("eth0: vlan", Level::Warn, |f| f.interfaces[0].stacked = Some(Stacked::Vlan)),
        ("heartbeat", Level::Warn, |f| f.heartbeat = Some((10_000, None))),
        ("heartbeat", Level::Warn, |f| f.heartbeat = Some((10_000, Some(30_000)))),
        ("heartbeat", Level::Fail, |f| f.heartbeat = Some((31_000, Some(30_000)))),
        ("files", Level::Warn, |f| f.files = (1_024, 4_096)),
        ("tcp_syncookies", Level::Warn, |f| f.syncookies = Some(0)),
        ("tcp_syncookies", Level::Warn, |f| f.syncookies = None),
        ("somaxconn", Level::Warn, |f| f.somaxconn = Some(128)),
        ("somaxconn", Level::Warn, |f| f.somaxconn = None),
        ("conntrack", Level::Warn, |f| f.conntrack = Some((80, 100))),
        ("clock", Level::Warn, |f| f.clock = Some("hpet".to_owned())),
        ("eth0: link", Level::Warn, |f| f.interfaces[0].up = false),
        ("eth0: xdp", Level::Fail, |f| f.interfaces[0].program = Some(program(Some("other"), "driver", false))),
        ("eth0: xdp", Level::Fail, |f| f.interfaces[0].program = Some(program(None, "generic", false))),
        ("eth0: xdp", Level::Warn, |f| f.interfaces[0].program = Some(program(Some("front"), "generic", true))),
        ("eth0: offloads", Level::Warn, |f| f.interfaces[0].lro = Some(true)),
        ("eth0: mtu", Level::Warn, |f| f.interfaces[0].mtu = 9_000),
        ("eth0: rp_filter", Level::Warn, |f| f.interfaces[0].rp_filter = Some(1)),
        ("eth0: link", Level::Fail, |f| f.interfaces[0].exists = false),
        ("wan: link", Level::Fail, |f| {
            f.interfaces.push(Interface { name: "wan".to_owned(), ..Interface::default() });
        }),
        ("eth0: rp_filter", Level::Ok, |f| f.interfaces[0].rp_filter = Some(2)),
    ];
    for (check, level, break_it) in rows {
        let mut facts = good();
        break_it(&mut facts);
        let findings = judge(&facts);
        let finding = findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("no line of {check}"));
        assert_eq!(finding.level, level, "{finding:?}");
        assert_eq!(finding.mend.is_some(), level != Level::Ok, "{finding:?}");
        let others = findings.iter().filter(|f| f.check != check);
        assert!(others.into_iter().all(|f| f.level == Level::Ok), "{check}: {findings:?}");
        assert_eq!(fails(&findings), level == Level::Fail, "{check}");
    }
}

#[test]
fn what_is_no_fault_stays_quiet() {
    let rows: [fn(&mut Facts); 6] = [
        |f| f.memlock = Some(65_536),
        |f| f.jit = None,
        |f| f.conntrack = Some((79, 100)),
        |f| f.interfaces[0].program = Some(program(Some("front"), "driver", true)),
        |f| f.interfaces[0].lro = None,
        |f| f.interfaces.clear(),
    ];
    for change in rows {
        let mut facts = good();
        change(&mut facts);
        let findings = judge(&facts);
        assert!(findings.iter().all(|f| f.level == Level::Ok), "{findings:?}");
    }
}

#[test]
fn old_kernels_charge_locked_memory() {
    let facts = Facts { release: "5.10.0".to_owned(), memlock: Some(65_536), ..good() };
    let findings = judge(&facts);
    assert!(findings.iter().any(|f| f.check == "memlock" && f.level == Level::Fail), "{findings:?}");
}

#[test]
fn a_foreign_program_is_named() {
    let mut facts = good();
    facts.interfaces[0].program = Some(program(Some("xdp_filter"), "driver", false));
    let findings = judge(&facts);
    let finding = findings.iter().find(|f| f.check == "eth0: xdp").unwrap();
    assert!(finding.found.contains("`xdp_filter` (id 7, driver mode)"), "{finding:?}");
}

#[test]
fn jumbo_frames_are_fine_where_the_kernel_takes_several_buffers() {
    let mut facts = good();
    facts.interfaces[0].mtu = 9_000;
    let level = |facts: &Facts| judge(facts).into_iter().find(|f| f.check == "eth0: mtu").map(|f| f.level);
    assert_eq!(level(&facts), Some(Level::Warn));
    facts.frags = true;
    assert_eq!(level(&facts), Some(Level::Ok));
}
