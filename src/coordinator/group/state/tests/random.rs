//! Random histories of one group, from seeds: clients that join, retry, fall silent and leave, appends that fail or come
//! late, time that passes. After every event the invariants are checked.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const SEQUENCES: u64 = 4_000;
const EVENTS: usize = 60;

/// What the outside world knows.
struct World {
    rig: Rig,
    random: StdRng,
    /// Ids the coordinator gave out.
    ids: Vec<MemberId>,
    /// Joins and syncs not answered yet.
    open_joins: Vec<Ticket>,
    open_syncs: Vec<Ticket>,
    last_generation: i32,
    born: u32,
    /// Members as of the last look.
    members: BTreeSet<MemberId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut rig = Rig::with(GroupConfig {
            initial_rebalance_delay_ms: if random.random() { 0 } else { 500 },
            max_size: if random.random_ratio(1, 4) { 3 } else { i32::MAX },
            ..GroupConfig::default()
        });
        rig.stores_at_once = false;
        Self {
            rig,
            random,
            ids: Vec::new(),
            open_joins: Vec::new(),
            open_syncs: Vec::new(),
            last_generation: 0,
            born: 0,
            members: BTreeSet::new(),
        }
    }

    fn some_id(&mut self) -> MemberId {
        if self.ids.is_empty() || self.random.random_ratio(1, 20) {
            return "stranger".into();
        }
        let at = self.random.random_range(0..self.ids.len());
        Arc::clone(&self.ids[at])
    }

    fn instance(&mut self) -> Option<Arc<str>> {
        self.random.random_ratio(1, 3).then(|| format!("i{}", self.random.random_range(0..3)).into())
    }

    fn join(&mut self) {
        let is_new = self.random.random_ratio(2, 5);
        self.born += 1;
        let mut request = new_member(&format!("m{:03}", self.born));
        if !is_new {
            request.member_id = self.some_id();
            let known = self.rig.group.members.get(&request.member_id);
            request.group_instance_id = known.and_then(|member| member.group_instance_id.clone());
        }
        if is_new || self.random.random_ratio(1, 20) {
            request.group_instance_id = self.instance();
        }
        request.require_known_member_id = self.random.random();
        request.supports_skip_assignment = self.random.random();
        request.rebalance_timeout_ms = self.random.random_range(1_000..20_000);
        request.session_timeout_ms = self.random.random_range(6_000..30_000);
        let choices: [&[&str]; 4] = [&["range", "sticky"], &["sticky", "range"], &["range"], &["other"]];
        let weight: usize = self.random.random_range(0..20);
        request.protocols = protocols(choices[if weight < 18 { weight % 2 } else { weight - 16 }]);
        let ticket = self.rig.join(request);
        self.open_joins.push(ticket);
    }

    fn sync(&mut self) {
        let id = match self.rig.group.leader.clone() {
            Some(leader) if self.random.random() => leader,
            _ => self.some_id(),
        };
        let everyone: Vec<MemberId> = self.rig.group.members.keys().cloned().collect();
        let assignment: Vec<(&str, &str)> = everyone.iter().map(|id| (&**id, &**id)).collect();
        let ticket = self.rig.sync(&id, &assignment);
        self.open_syncs.push(ticket);
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..=39 => self.join(),
            40..=59 => self.sync(),
            60..=69 => {
                let id = self.some_id();
                let _ = self.rig.heartbeat(&id);
            }
            70..=74 => {
                let id = self.some_id();
                let generation = self.rig.group.generation;
                let _ = self.rig.run(|group, cx| group.offset_commit(generation, &id, None, cx));
            }
            75..=80 => {
                let by_instance = self.random.random_ratio(1, 4);
                let id = if by_instance { Arc::from("") } else { self.some_id() };
                let instance = self.instance().filter(|_| by_instance);
                let _ = self.rig.run(|group, cx| group.leave(&id, instance.as_deref(), cx));
            }
            81..=90 => {
                let fails = self.random.random_ratio(1, 5);
                self.rig.finish_stores(if fails { Err(ErrorCode::NotCoordinator) } else { Ok(()) });
            }
            _ => {
                let ms = self.random.random_range(0..8_000);
                self.rig.pass(ms);
            }
        }
    }

    /// Takes in the answers and checks what they promise.
    fn look(&mut self) {
        let group = &self.rig.group;
        assert!(group.generation >= self.last_generation, "generations grow");
        self.last_generation = group.generation;
        let mut leaders: HashMap<i32, MemberId> = HashMap::new();
        let (rig, ids) = (&self.rig, &mut self.ids);
        self.open_syncs.retain(|ticket| !rig.syncs.contains_key(ticket));
        self.open_joins.retain(|ticket| {
            let Some(reply) = rig.joins.get(ticket) else { return true };
            if matches!(reply.error, ErrorCode::None | ErrorCode::MemberIdRequired) {
                assert!(!reply.member_id.is_empty());
                ids.push(Arc::clone(&reply.member_id));
            }
            if reply.error.is_none() {
                assert!(reply.protocol_name.is_some(), "a generation with members has a protocol");
            }
            if !reply.members.is_empty() {
                assert_eq!(reply.leader, reply.member_id, "only the leader gets them all");
                assert!(reply.members.iter().any(|member| member.member_id == reply.member_id));
                let other = leaders.insert(reply.generation, Arc::clone(&reply.member_id));
                assert!(other.is_none_or(|other| other == reply.member_id), "a generation has one leader");
            }
            false
        });
        // Whatever is not answered hangs on a member.
        let joins: BTreeSet<Ticket> = group.members.values().filter_map(|m| m.awaiting_join).collect();
        assert!(self.open_joins.iter().all(|ticket| joins.contains(ticket)), "a join was forgotten");
        let syncs: BTreeSet<Ticket> = group.members.values().filter_map(|m| m.awaiting_sync).collect();
        assert!(self.open_syncs.iter().all(|ticket| syncs.contains(ticket)), "a sync was forgotten");
        if matches!(group.state, GroupState::Stable | GroupState::CompletingRebalance) {
            assert!(group.protocol_name.is_some() && !group.members.is_empty());
        }
    }

    /// Where no time passes and nobody leaves, those who are in stay in.
    fn no_member_is_lost(&mut self, may_go: bool) {
        let now: BTreeSet<MemberId> = self.rig.group.members.keys().cloned().collect();
        if !may_go {
            assert!(self.members.is_subset(&now), "lost {:?}", self.members.difference(&now).collect::<Vec<_>>());
        }
        self.members = now;
    }
}

#[test]
fn random_histories_keep_the_invariants() {
    for seed in 0..SEQUENCES {
        let mut world = World::new(seed);
        for _ in 0..EVENTS {
            world.step();
            world.look();
        }
        // In the end everyone is answered: the group is given up.
        world.rig.finish_stores(Ok(()));
        world.rig.run(|group, cx| group.die(ErrorCode::NotCoordinator, cx));
        world.look();
        assert!(world.open_joins.is_empty() && world.open_syncs.is_empty(), "seed {seed}");
    }
}

#[test]
fn quiet_histories_lose_no_member() {
    for seed in 0..SEQUENCES / 4 {
        let mut world = World::new(seed);
        world.rig.config.max_size = i32::MAX;
        for _ in 0..EVENTS {
            let statics = world.rig.group.static_members.len();
            match world.random.random_range(0..4) {
                0 | 1 => world.join(),
                2 => world.sync(),
                _ => world.rig.finish_stores(Ok(())),
            }
            world.look();
            // A static member that comes back takes its former self's place.
            let has_statics = statics + world.rig.group.static_members.len() > 0;
            world.no_member_is_lost(has_statics);
        }
    }
}

#[test]
fn silence_always_ends_in_an_empty_group() {
    for seed in 0..SEQUENCES / 8 {
        let mut world = World::new(seed);
        for _ in 0..EVENTS {
            world.step();
            world.look();
        }
        for _ in 0..30 {
            world.rig.finish_stores(Ok(()));
            world.rig.pass(60_000);
            world.look();
        }
        assert_eq!(world.rig.group.state, GroupState::Empty, "seed {seed}");
        assert!(world.open_joins.is_empty() && world.open_syncs.is_empty(), "seed {seed}");
        assert_eq!(world.rig.group.next_deadline(), None, "seed {seed}");
    }
}
