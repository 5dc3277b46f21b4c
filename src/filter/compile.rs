//! From the configuration to a filter, with every problem told at once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::filter::amazon::{Resolvers, import};
use crate::filter::rule::Matcher;
use crate::filter::table::Rules;
use crate::filter::{
    Config, Direction, Error, Filter, Numbers, Problem, Program, Rule, RuleConfig, expression,
};

/// A rule and where it was written, for messages.
struct Placed {
    rule: RuleConfig,
    place: String,
}

pub(super) fn compile(config: &Config, base: &Path) -> Result<Filter, Vec<Error>> {
    let mut errors = Vec::new();
    let (placed, resolvers) = gather(config, base, &mut errors);
    let rules = rules(placed, &mut errors);
    let program = program(config, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let any = !rules.is_empty() || resolvers.is_some() || config.file.is_some();
    Ok(Filter {
        rules: any.then(|| Arc::new(Rules::new(rules, resolvers))),
        program,
    })
}

/// The rules of the table and of the file.
fn gather(
    config: &Config,
    base: &Path,
    errors: &mut Vec<Error>,
) -> (Vec<Placed>, Option<Resolvers>) {
    let place = |rule: &RuleConfig, of: &str| {
        format!("rule {} ({}){of}", rule.number, rule.direction.name())
    };
    let own = config.rules.iter();
    let mut placed: Vec<Placed> = own
        .map(|rule| Placed {
            place: place(rule, ""),
            rule: rule.clone(),
        })
        .collect();
    let Some(file) = &config.file else {
        errors.extend(config.id.clone().map(Error::IdWithoutFile));
        return (placed, None);
    };
    match import(&base.join(file), config.id.as_deref()) {
        Ok(import) => {
            let of = format!(" of {} in {}", import.id, file.display());
            let imported = import.rules.into_iter();
            placed.extend(imported.map(|rule| Placed {
                place: place(&rule, &of),
                rule,
            }));
            (placed, import.amazon_dns.then_some(Resolvers))
        }
        Err(error) => {
            errors.push(error);
            (placed, None)
        }
    }
}

/// The rules in the order in which they are asked: by direction, then by number.
fn rules(placed: Vec<Placed>, errors: &mut Vec<Error>) -> Vec<(Rule, Matcher)> {
    let mut seen: HashMap<(Direction, u32), String> = HashMap::new();
    let mut rules = Vec::new();
    for Placed { rule, place } in placed {
        let mut problems = Vec::new();
        let matcher = Matcher::new(&rule, &mut problems);
        if let Some(other) = seen.insert((rule.direction, rule.number), place.clone()) {
            problems.push(Problem::Duplicate(other));
        }
        errors.extend(problems.into_iter().map(|problem| Error::Rule {
            place: place.clone(),
            problem,
        }));
        rules.push((shown(&rule, &matcher), matcher));
    }
    rules.sort_by_key(|(rule, _)| (rule.direction, rule.number));
    rules
}

fn shown(rule: &RuleConfig, matcher: &Matcher) -> Rule {
    let note = rule
        .description
        .as_ref()
        .map(|d| format!(" ({d})"))
        .unwrap_or_default();
    Rule {
        number: rule.number,
        direction: rule.direction,
        action: rule.action,
        description: format!("{matcher}{note}"),
    }
}

fn program(config: &Config, errors: &mut Vec<Error>) -> Option<Program> {
    let compiled = match (&config.expression, &config.bpf) {
        (Some(_), Some(_)) => Err(Error::ExpressionAndBpf),
        (Some(text), None) => expression::compile(text).map_err(Error::from),
        (None, Some(Numbers::Text(text))) => Program::parse(text).map_err(Error::from),
        (None, Some(Numbers::List(list))) => Program::from_numbers(list).map_err(Error::from),
        (None, None) => return None,
    };
    compiled.map_err(|e| errors.push(e)).ok()
}
