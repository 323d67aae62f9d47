//! The streams between nodes.

use std::time::Duration;

use bowline_registry::peers::node_number;

use super::events::Event;
use super::node::Node;
use super::world::{Checked, Stream, World};

/// Silence after which a stream counts as broken.
const SILENT: Duration = Duration::from_secs(5);

impl World {
    /// Ends streams that are silent or of no use, and opens those that are missing.
    pub(super) fn tend(&mut self, n: usize) {
        let now = self.now();
        let Some(node) = &self.hosts[n].node else { return };
        let (life, tended) = (node.own.owner.life, node.tended.clone());
        for (stream, id) in node.streams.clone() {
            let Some(s) = self.streams.get(&stream) else { continue };
            let side = usize::from(s.ends[1] == n);
            if tended.close.contains(&id) || s.heard[side] + SILENT <= now {
                self.close(stream, n);
            }
        }
        for other in tended.call {
            let Some(to) = self.hosts.iter().position(|h| node_number(&h.name) == other) else { continue };
            let there = self.network.send(n, to, &self.rng);
            let (Some(there), Some(back)) = (there, self.network.send(to, n, &self.rng)) else { continue };
            let other = self.hosts[to].node.as_ref().filter(|_| self.hosts[to].paused <= now);
            if let Some(other) = other {
                self.next_stream += 1;
                let stream = Stream {
                    ends: [n, to],
                    lives: [life, other.own.owner.life],
                    heard: [now; 2],
                    ways: Default::default(),
                };
                self.streams.insert(self.next_stream, stream);
                self.events.after(there + back, Event::Open(self.next_stream));
            }
        }
    }

    pub(super) fn open(&mut self, stream: u64) -> Checked {
        let now = self.now();
        let Some(s) = self.streams.get_mut(&stream) else { return Ok(()) };
        s.heard = [now; 2];
        let (ends, lives) = (s.ends, s.lives);
        let is_there = |side: usize| {
            let node = self.hosts[ends[side]].node.as_ref();
            node.is_some_and(|node| node.own.owner.life == lives[side])
        };
        if !is_there(0) || !is_there(1) {
            self.streams.remove(&stream);
            return Ok(());
        }
        for side in 0..2 {
            let (n, other) = (ends[side], ends[1 - side]);
            let Some(node) = &self.hosts[n].node else { continue };
            // One stream to a node: the newest.
            let same = |old: &&u64| self.streams.get(old).is_some_and(|s| s.ends.contains(&other));
            let old: Vec<u64> = node.streams.keys().filter(same).copied().collect();
            for old in old {
                self.close(old, n);
            }
            let near = self.hosts[n].zone == self.hosts[other].zone;
            let number = node_number(&self.hosts[other].name);
            if let Some(node) = &mut self.hosts[n].node {
                let id = node.peers.open(number, near, side == 0, &node.store, now);
                node.streams.insert(stream, id);
            }
        }
        self.pump(ends[0]);
        self.pump(ends[1]);
        Ok(())
    }

    /// A node ends its side of a stream; the other one hears of it, if it can.
    pub(super) fn close(&mut self, stream: u64, n: usize) {
        if let Some(node) = &mut self.hosts[n].node
            && let Some(id) = node.streams.remove(&stream)
        {
            node.peers.close(id);
        }
        let Some(s) = self.streams.get(&stream) else { return };
        let other = if s.ends[0] == n { s.ends[1] } else { s.ends[0] };
        let there = self.hosts[other].node.as_ref().is_some_and(|node| node.streams.contains_key(&stream));
        if !there {
            self.streams.remove(&stream);
        } else if let Some(delay) = self.network.send(n, other, &self.rng) {
            self.events.after(delay, Event::Reset(stream, other));
        }
    }

    /// Puts on the way what a node has to say.
    pub(super) fn pump(&mut self, n: usize) {
        let now = self.now();
        let Some(node) = &mut self.hosts[n].node else { return };
        let said = node.store.take_said();
        node.peers.say(&said);
        for (stream, id) in node.streams.clone() {
            let Some(s) = self.streams.get_mut(&stream) else { continue };
            let way = usize::from(s.ends[1] == n);
            while let Some(message) = node.peers.poll(id, &node.store, now) {
                self.sums.messages += 1;
                let delay = self.network.stream(n, s.ends[1 - way], &self.rng);
                let at = now + delay.unwrap_or(Duration::from_millis(200));
                let at = s.ways[way].back().map_or(at, |(last, _)| at.max(*last));
                s.ways[way].push_back((at, message));
                self.events.at(at, Event::Arrive(stream, way));
            }
        }
    }

    pub(super) fn arrive(&mut self, stream: u64, way: usize) -> Checked {
        let now = self.now();
        let Some(s) = self.streams.get_mut(&stream) else { return Ok(()) };
        let (from, to) = (s.ends[way], s.ends[1 - way]);
        if s.ways[way].front().is_none_or(|(at, _)| *at > now) {
            return Ok(());
        }
        if self.network.is_cut(from, to) {
            self.events.after(Duration::from_millis(200), Event::Arrive(stream, way));
            return Ok(());
        }
        let Some((_, message)) = s.ways[way].pop_front() else { return Ok(()) };
        s.heard[1 - way] = now;
        let Some(node) = &mut self.hosts[to].node else { return Ok(()) };
        let Some(id) = node.streams.get(&stream).copied() else { return Ok(()) };
        if self.verbose {
            let what: String = format!("{message:?}").chars().take(300).collect();
            #[allow(clippy::print_stdout, reason = "asked for")]
            {
                println!("{:>9.3} {from} -> {to} ({stream}): {what}", (now - self.start).as_secs_f64());
            }
        }
        let Node { peers, store, .. } = node;
        peers.receive(id, message, store, now).map_err(|e| format!("node {to}: {e}"))?;
        self.look(to)?;
        self.pump(to);
        Ok(())
    }
}
