//! Networks of our own, with cables that can be pulled: network namespaces on a bridge.

use std::process::{Command, Output};

/// Some networks of one host each, all on one bridge. Dropping them takes them down.
///
/// Each host has a second way to this machine, by which the test reaches it whatever becomes of the first.
pub(crate) struct Networks {
    bridge: String,
    count: usize,
}

fn ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().unwrap_or_else(|error| panic!("ip {arguments:?}: {error}"))
}

fn do_ip(arguments: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = ip(&arguments);
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Networks {
    /// So many; or why there can be none here.
    pub(crate) fn make(count: usize) -> Result<Self, String> {
        if Command::new("ip").arg("-V").output().is_err() {
            return Err("the program `ip` of iproute2 is not here".into());
        }
        let bridge = format!("bwl{}", std::process::id());
        let made = ip(&["netns", "add", &bridge]);
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(format!("network namespaces are not permitted here: {why}"));
        }
        let networks = Self { bridge, count };
        let bridge = &networks.bridge;
        do_ip(&format!("-n {bridge} link add br0 type bridge"));
        do_ip(&format!("-n {bridge} link set br0 up"));
        for n in 0..count {
            let (name, address, ours) = (networks.name(n), networks.address(n), networks.own_door(n));
            let (near, there) = (networks.door(n), networks.back_door(n));
            do_ip(&format!("netns add {name}"));
            do_ip(&format!("-n {name} link set lo up"));
            do_ip(&format!("-n {bridge} link add port{n} type veth peer name eth0 netns {name}"));
            do_ip(&format!("-n {bridge} link set port{n} master br0"));
            do_ip(&format!("-n {bridge} link set port{n} up"));
            do_ip(&format!("-n {name} addr add {address}/24 dev eth0"));
            do_ip(&format!("-n {name} link set eth0 up"));
            do_ip(&format!("link add {near} type veth peer name door netns {name}"));
            do_ip(&format!("addr add {ours}/30 dev {near}"));
            do_ip(&format!("link set {near} up"));
            do_ip(&format!("-n {name} addr add {there}/30 dev door"));
            do_ip(&format!("-n {name} link set door up"));
        }
        Ok(networks)
    }

    /// The name of a network.
    pub(crate) fn name(&self, n: usize) -> String {
        format!("{}-{n}", self.bridge)
    }

    /// Where others reach its host.
    pub(crate) fn address(&self, n: usize) -> String {
        format!("10.251.7.{}", n + 1)
    }

    fn door(&self, n: usize) -> String {
        format!("{}d{n}", self.bridge)
    }

    fn own_door(&self, n: usize) -> String {
        format!("10.251.{}.{}", 100 + std::process::id() % 100, 4 * n + 1)
    }

    /// Where the test reaches its host.
    pub(crate) fn back_door(&self, n: usize) -> String {
        format!("10.251.{}.{}", 100 + std::process::id() % 100, 4 * n + 2)
    }

    /// Pulls its cable.
    pub(crate) fn cut(&self, n: usize) {
        do_ip(&format!("-n {} link set port{n} down", self.bridge));
    }

    /// Puts it in again.
    pub(crate) fn mend(&self, n: usize) {
        do_ip(&format!("-n {} link set port{n} up", self.bridge));
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for n in 0..self.count {
            // What was not made yet cannot be taken down, and does not have to be.
            let _ = ip(&["link", "del", &self.door(n)]);
            let _ = ip(&["netns", "del", &self.name(n)]);
        }
        let _ = ip(&["netns", "del", &self.bridge]);
    }
}
