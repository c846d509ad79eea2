//! Offsets that transactions commit, through the shell: pending until the marker, across loads and failures.

use super::*;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::coordinator::group::txn_commit::TxnCommitRequest;
use crate::log::verification::Verification;

const PRODUCER: ProducerId = ProducerId(9);

fn request(offset: i64, generation: i32, member_id: &str) -> TxnCommitRequest<'_> {
    TxnCommitRequest {
        group_id: "g",
        producer_id: PRODUCER,
        producer_epoch: ProducerEpoch(0),
        generation,
        member_id,
        group_instance_id: None,
        entries: vec![CommitEntry { topic: "t", partition: 0, committed: committed(offset) }],
        verification: Verification::Off,
    }
}

async fn commit(rig: &Rig, offset: i64) -> ErrorCode {
    rig.groups.commit_txn_offsets(request(offset, -1, "")).await[0]
}

fn is_unstable(rig: &Rig) -> bool {
    let look = |offsets: Option<&GroupOffsets>| offsets.is_some_and(|offsets| offsets.is_unstable("t", 0));
    rig.groups.with_offsets("g", look).expect("it is served")
}

#[test]
fn what_a_transaction_commits_holds_from_its_marker_on() {
    run(async {
        let rig = Rig::new().await;
        assert_eq!(rig.commit(-1, "", 0, 5).await, ErrorCode::None);
        assert_eq!(commit(&rig, 6).await, ErrorCode::None);
        assert_eq!((rig.offset(0), is_unstable(&rig)), (Some(5), true));
        rig.groups.on_transaction_completed(0, ProducerId(8), true);
        assert!(is_unstable(&rig), "the transaction of another");
        rig.groups.on_transaction_completed(0, PRODUCER, true);
        assert_eq!((rig.offset(0), is_unstable(&rig)), (Some(6), false));
        assert_eq!(commit(&rig, 7).await, ErrorCode::None);
        rig.groups.on_transaction_completed(0, PRODUCER, false);
        assert_eq!((rig.offset(0), is_unstable(&rig)), (Some(6), false));
        let batch = rig.log.batches(0).pop().expect("a batch");
        let header = BatchHeader::read(&batch).expect("a header");
        assert!(header.is_transactional() && !header.is_control());
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (PRODUCER, ProducerEpoch(0), -1));
    });
}

#[test]
fn a_member_of_another_generation_is_fenced() {
    run(async {
        let rig = Rig::new().await;
        rig.settle().await;
        let code = async |generation, member| rig.groups.commit_txn_offsets(request(6, generation, member)).await[0];
        assert_eq!(code(1, "other").await, ErrorCode::UnknownMemberId);
        assert_eq!(code(0, "m").await, ErrorCode::IllegalGeneration);
        assert!(!is_unstable(&rig));
        assert_eq!(code(1, "m").await, ErrorCode::None);
        assert!(is_unstable(&rig));
    });
}

#[test]
fn a_commit_that_could_not_be_written_leaves_nothing_pending() {
    run(async {
        let rig = Rig::new().await;
        for (error, told) in [
            (ErrorCode::InvalidTxnState, ErrorCode::InvalidTxnState),
            (ErrorCode::InvalidProducerEpoch, ErrorCode::InvalidProducerEpoch),
            (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
            (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        ] {
            rig.log.fail_appends(Some(error));
            assert_eq!(commit(&rig, 6).await, told);
            assert!(!is_unstable(&rig));
        }
        rig.log.fail_appends(None);
        rig.groups.on_transaction_completed(0, PRODUCER, true);
        assert_eq!(rig.offset(0), None);
    });
}

#[test]
fn a_commit_is_pending_before_it_is_acknowledged() {
    run(async {
        let rig = Rig::new().await;
        rig.log.hold_acks(true);
        let groups = Arc::clone(&rig.groups);
        let waiting = tokio::spawn(async move { groups.commit_txn_offsets(request(6, -1, "")).await });
        rig.until(|| rig.log.held() == 1).await;
        assert!(is_unstable(&rig));
        rig.log.release(Err(ErrorCode::RequestTimedOut));
        assert_eq!(waiting.await.expect("an answer"), [ErrorCode::RequestTimedOut]);
        assert!(is_unstable(&rig), "it is in the log, and the transaction decides");
        rig.groups.on_transaction_completed(0, PRODUCER, true);
        assert_eq!(rig.offset(0), Some(6));
    });
}

#[test]
fn a_marker_finds_what_was_loaded_and_waits_for_what_is_being_loaded() {
    run(async {
        let rig = Rig::new().await;
        assert_eq!(commit(&rig, 6).await, ErrorCode::None);
        let rig = rig.restarted().await;
        assert!(is_unstable(&rig));
        rig.log.fail_reads(true);
        rig.log.lead(0, LeaderEpoch(6));
        rig.groups.on_election(0, LeaderEpoch(6));
        rig.groups.on_transaction_completed(0, PRODUCER, true);
        rig.log.fail_reads(false);
        rig.until(|| rig.groups.is_served(0)).await;
        rig.until(|| !is_unstable(&rig)).await;
        assert_eq!(rig.offset(0), Some(6));
    });
}
