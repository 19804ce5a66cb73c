//! What the scheduler promises, with sequences that are only pretended to run.

use super::*;
use crate::adapters::AdapterSet;
use crate::request::Request;

fn scheduler(pages_max: usize, chunk_tokens_max: usize) -> Scheduler {
    let options = EngineOptions {
        pages_max,
        page_tokens: 4,
        chunk_tokens_max,
        sequences_max: 3,
        ..EngineOptions::default()
    };
    Scheduler::new(&options)
}

/// A prompt that no other sequence shares a page with.
fn push(scheduler: &mut Scheduler, id: u64, prompt: usize) {
    push_tokens(scheduler, id, vec![id as u32 + 100; prompt], None);
}

fn push_tokens(scheduler: &mut Scheduler, id: u64, prompt: Vec<u32>, caller: Option<u8>) {
    let mut request = Request::greedy(prompt, 8);
    request.caller = caller.map(|caller| CallerId::of(&[caller]));
    scheduler.push(Sequence::new(SequenceId(id), request, AdapterSet::default()));
}

/// Plans, pretends to run, and draws a token where one is due. Returns rows per sequence.
fn step(scheduler: &mut Scheduler) -> Vec<(u64, usize)> {
    let plan = scheduler.plan();
    for row in &plan.rows {
        let held = plan.sequences[row.sequence].pages.len() * 4;
        assert!(row.position < held, "a row without a page");
    }
    let mut ran = Vec::new();
    for sequence in scheduler.planned() {
        ran.push((sequence.id.0, sequence.planned));
        sequence.cached += sequence.planned;
        if sequence.pending() == 0 {
            sequence.tokens.push(2);
        }
    }
    scheduler.ran();
    ran
}

#[test]
fn prompts_come_in_chunks_and_decoding_goes_first() {
    let mut scheduler = scheduler(100, 5);
    push(&mut scheduler, 1, 3);
    push(&mut scheduler, 2, 9);
    assert_eq!(step(&mut scheduler), [(1, 3), (2, 2)]);
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 5)]);
    let plan = scheduler.plan();
    assert_eq!(plan.rows[0].sequence, 0);
    assert_eq!(plan.rows[0].wants, Wants::Logits);
    assert_eq!(plan.rows[1].wants, Wants::Nothing);
    assert_eq!(plan.rows[2].wants, Wants::Logits);
}

#[test]
fn the_youngest_gives_way_and_comes_back() {
    let mut scheduler = scheduler(5, 64);
    push(&mut scheduler, 1, 7);
    push(&mut scheduler, 2, 7);
    assert_eq!(step(&mut scheduler), [(1, 7), (2, 7)]);
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 1)]);
    // Both are at a page's end, one page is left: the older gets it.
    assert_eq!(step(&mut scheduler), [(1, 1)]);
    for _ in 0..3 {
        assert_eq!(step(&mut scheduler), [(1, 1)]);
    }
    // A fourth page for the oldest: the youngest gives all back.
    assert_eq!(step(&mut scheduler), [(1, 1)]);
    assert_eq!((scheduler.running(), scheduler.waiting()), (1, 1));
    assert!(scheduler.remove(SequenceId(1)).is_some());
    // Its last page was needed meanwhile, its first is found again.
    assert_eq!(step(&mut scheduler), [(2, 5)]);
    assert!(scheduler.remove(SequenceId(2)).is_some());
    assert_eq!(scheduler.pages.free(), 5);
}

#[test]
fn places_are_limited_and_the_queue_keeps_its_order() {
    let mut scheduler = scheduler(100, 64);
    for id in 1..=5 {
        push(&mut scheduler, id, 2);
    }
    assert_eq!(step(&mut scheduler), [(1, 2), (2, 2), (3, 2)]);
    assert!(scheduler.remove(SequenceId(2)).is_some());
    assert!(scheduler.remove(SequenceId(5)).is_some());
    assert_eq!(step(&mut scheduler), [(1, 1), (3, 1), (4, 2)]);
    assert!(scheduler.remove(SequenceId(9)).is_none());
}

#[test]
fn pages_can_be_borrowed_from_running_sequences() {
    let mut scheduler = scheduler(8, 64);
    push(&mut scheduler, 1, 7);
    push(&mut scheduler, 2, 7);
    step(&mut scheduler);
    let mut pages = scheduler.borrow(6).unwrap();
    assert_eq!((scheduler.running(), scheduler.waiting()), (1, 1));
    assert!(scheduler.borrow(9).is_none());
    scheduler.pages.give(&mut pages);
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 8)]);
}

#[test]
fn a_beginning_that_was_run_before_is_found_and_the_last_token_is_always_run() {
    let mut scheduler = scheduler(100, 64);
    let prompt: Vec<u32> = (10..20).collect();
    push_tokens(&mut scheduler, 1, prompt.clone(), None);
    assert_eq!(step(&mut scheduler), [(1, 10)]);
    // While the first still runs, and after it ended.
    push_tokens(&mut scheduler, 2, prompt.clone(), None);
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 2)]);
    assert_eq!(scheduler.pages.free(), 100 - 4, "two pages are shared");
    assert!(scheduler.remove(SequenceId(1)).is_some());
    assert!(scheduler.remove(SequenceId(2)).is_some());
    assert_eq!(scheduler.pages.free(), 100);
    push_tokens(&mut scheduler, 3, prompt[..8].to_vec(), None);
    push_tokens(&mut scheduler, 4, prompt[1..].to_vec(), None);
    assert_eq!(step(&mut scheduler), [(3, 4), (4, 9)]);
    assert_eq!(scheduler.reused(), 8 + 4);
    assert!(scheduler.remove(SequenceId(3)).is_some());
    assert!(scheduler.remove(SequenceId(4)).is_some());
    assert_eq!((scheduler.pages.free(), scheduler.pages.findable()), (100, 4));
}

#[test]
fn of_several_with_the_same_beginning_one_runs_it_and_the_others_follow() {
    let mut scheduler = scheduler(100, 6);
    let prompt: Vec<u32> = (10..20).collect();
    for id in 1..=3 {
        let own = prompt.iter().copied().chain([id as u32]).collect();
        push_tokens(&mut scheduler, id, own, None);
    }
    assert_eq!(step(&mut scheduler), [(1, 6)]);
    assert_eq!(step(&mut scheduler), [(1, 5)], "the second page is still on its way");
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 3), (3, 3)]);
    assert!(scheduler.remove(SequenceId(1)).is_some(), "what it shares stays");
    assert_eq!(step(&mut scheduler), [(2, 1), (3, 1)]);
}

#[test]
fn a_callers_flood_gives_places_back_to_others() {
    let mut scheduler = scheduler(100, 64);
    for id in 1..=9 {
        push_tokens(&mut scheduler, id, vec![id as u32; 3], Some(1));
    }
    assert_eq!(step(&mut scheduler), [(1, 3), (2, 3), (3, 3)]);
    push_tokens(&mut scheduler, 20, vec![20; 3], Some(2));
    push_tokens(&mut scheduler, 21, vec![21; 3], Some(2));
    // One of two callers has a third of three places at least; the flood's oldest go on.
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 1), (20, 3)]);
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 1), (20, 1)]);
    push_tokens(&mut scheduler, 30, vec![30; 3], Some(3));
    assert_eq!(step(&mut scheduler), [(1, 1), (20, 1), (30, 3)]);
    assert!(scheduler.remove(SequenceId(20)).is_some());
    let ran = step(&mut scheduler);
    assert_eq!(ran[..2], [(1, 1), (30, 1)]);
    assert_eq!(ran[2], (21, 3), "the second caller had less than the first");
}

#[test]
fn short_prompts_pass_a_long_one_but_not_for_ever() {
    let mut scheduler = scheduler(400, 8);
    push(&mut scheduler, 1, 40);
    step(&mut scheduler);
    push(&mut scheduler, 2, 8);
    assert_eq!(step(&mut scheduler), [(2, 8)], "8 are fewer than 32 less a bit");
    let mut steps = 0;
    let mut id = 2;
    while scheduler.running.iter().any(|one| one.id.0 == 1 && one.answer().is_empty()) {
        assert!(scheduler.remove(SequenceId(id)).is_some());
        id += 1;
        push(&mut scheduler, id, 8);
        step(&mut scheduler);
        steps += 1;
        assert!(steps < 40, "the long prompt starves");
    }
}
