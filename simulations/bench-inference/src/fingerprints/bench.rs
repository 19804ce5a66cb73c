//! Engines, and the pieces of work that they are given.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use openledger_inference::{
    BackendKind, Claim, Engine, Event, Fingerprint, Request, SequenceId, Tolerance,
};

use openledger_models::Adapter;

use super::cheats::{self, Cheat};
use super::prompts::{ADAPTERS, Prompts, YOUNG, adapter_id};
use super::spoil::{Spoil, spoiled};
use super::tally::Tallies;
use super::{Part, may_check};
use crate::adapters;
use crate::limits::{ADAPTER_RANK, FingerprintSizes};
use crate::subject::{Class, Subject};

/// An answer and what it claims.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// What tells answers apart.
    pub(super) number: u64,
    pub(super) request: Request,
    pub(super) tokens: Vec<u32>,
    pub(super) fingerprint: Fingerprint,
}

/// Requests of a piece of work: they are written together.
const PIECE: u64 = 32;

/// Numbers of the adapters that cheats run in place of others are so much higher.
pub(super) const OTHERS: u64 = 50;

/// What is to be done in all.
#[derive(Debug)]
pub(super) struct Plan {
    classes: Vec<Class>,
    /// Numbers of honest requests end here; slow classes take every so many of them.
    honest: u64,
    cheats: u64,
    /// Of each answer.
    chunks: u64,
}

/// How many requests it is to one that a class writes or checks: as many as the fast backend does
/// in the same time, roughly.
const fn stride(class: Class) -> u64 {
    match class.backend {
        BackendKind::Int12 => 1,
        BackendKind::Int12Whole | BackendKind::Onnx => 4,
        BackendKind::Reference => 8,
        // As if on Mesa's software Vulkan: what others do is a matter of minutes anyway.
        _ => 16,
    }
}

/// The writers and checkers of honest answers.
fn pairs(classes: &[Class]) -> impl Iterator<Item = (Class, Class)> + '_ {
    let of = |writer: Class| classes.iter().map(move |checker| (writer, *checker));
    classes.iter().flat_map(move |writer| of(*writer)).filter(|(w, c)| may_check(*c, *w))
}

impl Plan {
    pub(super) fn new(classes: &[Class], sizes: &FingerprintSizes) -> Self {
        let slowest = classes.iter().map(|class| stride(*class)).max().unwrap_or(1);
        // In so many numbers each pair has a whole count.
        let each = |(writer, checker)| slowest / stride(writer).max(stride(checker));
        let chunks: u64 = pairs(classes).map(each).sum::<u64>() * sizes.answer_chunks;
        let honest = sizes.chunks.div_ceil(chunks.max(1)) * slowest;
        let (cheats, chunks) = (sizes.cheats, sizes.answer_chunks);
        Self { classes: classes.to_vec(), honest, cheats, chunks }
    }

    /// The numbers of a piece, for a class that takes every so many.
    fn numbers(end: u64, stride: u64, piece: u64) -> impl Iterator<Item = u64> {
        let first = piece * PIECE;
        (first..first + PIECE).map(move |index| index * stride).take_while(move |n| *n < end)
    }

    /// How many pieces so many numbers are.
    const fn pieces(end: u64, stride: u64) -> u64 {
        end.div_ceil(PIECE * stride)
    }

    /// Who checks a cheat: all that may, in turn, the slow ones more seldom.
    fn checker(&self, writer: Class, number: u64) -> Option<Class> {
        let may = || self.classes.iter().filter(|class| may_check(**class, writer));
        let slowest = may().map(|class| stride(*class)).max()?;
        let mut turns: Vec<Class> = may()
            .flat_map(|class| std::iter::repeat_n(*class, (slowest / stride(*class)) as usize))
            .collect();
        turns.sort_by_key(|class| stride(*class));
        turns.get((number % turns.len().max(1) as u64) as usize).copied()
    }
}

/// Runs a part of a plan on one thread; `note` hears how far it is.
pub(super) fn run(
    subject: &Subject,
    plan: &Plan,
    part: Part,
    note: &mut dyn FnMut(&str),
) -> Result<Tallies> {
    let mut bench = Bench::new(subject, plan)?;
    let mut tallies = Tallies::default();
    let mut piece = 0;
    for writer in &plan.classes {
        let stride = stride(*writer);
        for index in 0..Plan::pieces(plan.honest, stride) {
            piece += 1;
            if part.has(piece) {
                let numbers = Plan::numbers(plan.honest, stride, index);
                note(&format!("piece {piece}: honest answers by {}", writer.name()));
                bench.honest(plan, *writer, numbers, &mut tallies)?;
            }
        }
    }
    for cheat in Cheat::ALL {
        for index in 0..Plan::pieces(plan.cheats, 1) {
            piece += 1;
            if part.has(piece) {
                note(&format!("piece {piece}: cheat: {}", cheat.name()));
                let numbers = Plan::numbers(plan.cheats, 1, index);
                bench.cheat(plan, cheat, numbers, &mut tallies)?;
            }
        }
    }
    Ok(tallies)
}

/// Engines of one thread each, made when they are needed.
pub(super) struct Bench<'a> {
    subject: &'a Subject,
    pub(super) prompts: Prompts,
    engines: BTreeMap<(Option<Spoil>, &'static str), Engine>,
    /// By seed.
    adapters: BTreeMap<u64, Adapter>,
}

impl<'a> Bench<'a> {
    fn new(subject: &'a Subject, plan: &Plan) -> Result<Self> {
        let (engines, adapters) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { subject, prompts: Prompts::new(subject, plan.chunks)?, engines, adapters })
    }

    /// An engine of a class, perhaps over a spoiled copy of the model, with all adapters that
    /// requests name.
    pub(super) fn engine(&mut self, class: Class, spoil: Option<Spoil>) -> Result<&mut Engine> {
        let key = (spoil, class.name());
        if !self.engines.contains_key(&key) {
            let other = spoil.map(|spoil| spoiled(self.subject, spoil)).transpose()?;
            let subject = other.as_ref().unwrap_or(self.subject);
            let mut engine = subject.engine_of(class, 1)?;
            for number in (0..ADAPTERS).chain([YOUNG]) {
                engine.put_adapter(adapter_id(number), self.adapter(number)?)?;
            }
            self.engines.insert(key, engine);
        }
        self.engines.get_mut(&key).with_context(|| format!("keep an engine of {}", class.name()))
    }

    /// The same with those too that a cheat would run in place of others.
    pub(super) fn engine_with_others(&mut self, class: Class) -> Result<&mut Engine> {
        for number in OTHERS..OTHERS + ADAPTERS {
            if !self.engine(class, None)?.has_adapter(&adapter_id(number)) {
                let adapter = self.adapter(number)?;
                self.engine(class, None)?.put_adapter(adapter_id(number), adapter)?;
            }
        }
        self.engine(class, None)
    }

    /// The adapter of a number, made once.
    fn adapter(&mut self, number: u64) -> Result<Adapter> {
        if let Some(adapter) = self.adapters.get(&number) {
            return Ok(adapter.clone());
        }
        let config = self.subject.model.config();
        let made = if number == YOUNG { adapters::young } else { adapters::adapter };
        let adapter = made(config, number, ADAPTER_RANK)?;
        self.adapters.insert(number, adapter.clone());
        Ok(adapter)
    }

    /// Honest answers, checked by every class that may, as often as it can.
    fn honest(
        &mut self,
        plan: &Plan,
        writer: Class,
        numbers: impl Iterator<Item = u64>,
        tallies: &mut Tallies,
    ) -> Result<()> {
        let requests = numbers.map(|number| (number, self.prompts.request(number))).collect();
        let answers = write(self.engine(writer, None)?, requests)?;
        for checker in plan.classes.iter().filter(|checker| may_check(**checker, writer)) {
            let pair = (writer.name().to_owned(), checker.name().to_owned());
            let tolerance = tolerance(writer, *checker)?;
            let tally = tallies.honest.entry(pair).or_default();
            let engine = self.engine(*checker, None)?;
            let stride = stride(*checker);
            for answer in answers.iter().filter(|answer| answer.number.is_multiple_of(stride)) {
                let found = engine.verify_claim(&answer.request, &claim(answer), tolerance)?;
                tally.add(&found, plan.chunks, &tolerance);
            }
        }
        Ok(())
    }

    /// Cheats of a kind, each checked by one class.
    fn cheat(
        &mut self,
        plan: &Plan,
        cheat: Cheat,
        numbers: impl Iterator<Item = u64>,
        tallies: &mut Tallies,
    ) -> Result<()> {
        let writer = Class::CPU;
        for answer in cheats::write_cheats(self, writer, cheat, numbers)? {
            let checker = plan.checker(writer, answer.number).context("find who checks")?;
            let tolerance = tolerance(writer, checker)?;
            let engine = self.engine(checker, None)?;
            let found = engine.verify_claim(&answer.request, &claim(&answer), tolerance)?;
            let pair = (cheat.name().to_owned(), checker.name().to_owned());
            tallies.cheats.entry(pair).or_default().add(&found, plan.chunks, &tolerance);
        }
        Ok(())
    }
}

const fn claim(answer: &Answer) -> Claim<'_> {
    Claim { tokens: answer.tokens.as_slice(), fingerprint: &answer.fingerprint }
}

fn tolerance(writer: Class, checker: Class) -> Result<Tolerance> {
    let found = Tolerance::between(writer.name(), checker.name());
    found.with_context(|| format!("check {} by {}", writer.name(), checker.name()))
}

/// Runs requests to their ends, all together.
pub(super) fn write(engine: &mut Engine, requests: Vec<(u64, Request)>) -> Result<Vec<Answer>> {
    let mut open: BTreeMap<SequenceId, (u64, Request, Vec<u32>)> = BTreeMap::new();
    for (number, request) in requests {
        open.insert(engine.submit(request.clone())?, (number, request, Vec::new()));
    }
    let mut answers = Vec::with_capacity(open.len());
    while !engine.is_idle() {
        for event in engine.step()? {
            match event {
                Event::Token { sequence, token, .. } => {
                    if let Some((_, _, tokens)) = open.get_mut(&sequence) {
                        tokens.push(token);
                    }
                }
                Event::Finished { sequence, fingerprint, .. } => {
                    let answer = open.remove(&sequence).context("finish: not begun")?;
                    let (number, request, tokens) = answer;
                    answers.push(Answer { number, request, tokens, fingerprint });
                }
                Event::Failed { sequence, error } => bail!("run {sequence}: {error}"),
            }
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FINGERPRINTS;

    #[test]
    fn a_plan_has_enough_honest_chunks_and_every_class_checks_cheats() {
        let classes = [Class::REFERENCE, Class::CPU, Class::CPU_KV8, Class::ONNX];
        let plan = Plan::new(&classes, &FINGERPRINTS);
        let mut chunks = 0;
        for (writer, checker) in pairs(&classes) {
            let written = (0..Plan::pieces(plan.honest, stride(writer)))
                .flat_map(|piece| Plan::numbers(plan.honest, stride(writer), piece));
            let checked = written.filter(|number| number.is_multiple_of(stride(checker))).count();
            assert!(checked > 100, "{writer:?} {checker:?}");
            chunks += checked as u64 * plan.chunks;
        }
        assert!((10_000..11_000).contains(&chunks), "{chunks}");
        let by = |class: Class| {
            let checks = |number: &u64| plan.checker(Class::CPU, *number) == Some(class);
            (0..1_000).filter(checks).count()
        };
        assert!(by(Class::CPU) > 600 && by(Class::REFERENCE) > 50 && by(Class::ONNX) > 100);
        assert_eq!(by(Class::CPU_KV8), 0, "it judges its own class alone");
    }
}
