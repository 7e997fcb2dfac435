//! The words of the configuration, from the same description that checks documents.

use std::fmt::Write;

use mlgate::config::shape::words::DOCUMENT;
use mlgate::config::shape::{Object, Shape};
use serde_json::Value as Json;

/// One line for each word that works.
pub(crate) fn table() -> String {
    let mut text = String::from("| word | value | |\n|---|---|---|\n");
    each(&DOCUMENT, "", &mut |place, shape, required, note| {
        if let Some(shape) = shape {
            let must = if required { "**required**; " } else { "" };
            let _ = writeln!(text, "| `{place}` | {must}{} | {note} |", say(shape));
        }
    });
    text.replace(" |  |\n", " | |\n")
}

/// The words that are reserved, and the choices.
pub(crate) fn reserved() -> String {
    let mut words = Vec::new();
    each(&DOCUMENT, "", &mut |place, shape, _, _| match shape {
        None => words.push(format!("`{place}`")),
        Some(Shape::Choice(choice)) => {
            words.extend(choice.later.iter().map(|word| format!("`{place}: {word}`")));
        }
        Some(Shape::List { of: Shape::Choice(choice), .. }) => {
            words.extend(choice.later.iter().map(|word| format!("`{place}: [{word}]`")));
        }
        Some(_) => {}
    });
    format!("{}.\n", words.join(", "))
}

/// Words that work, and that a document does not use.
pub(crate) fn missing_in(document: &Json) -> Vec<String> {
    let mut missing = Vec::new();
    each(&DOCUMENT, "", &mut |place, shape, _, _| {
        if shape.is_some() && !uses(document, place) {
            missing.push(place.to_owned());
        }
    });
    missing
}

fn uses(node: &Json, place: &str) -> bool {
    let (word, rest) = place.split_once('.').unwrap_or((place, ""));
    let name = word.trim_end_matches("[]");
    let members = node.as_object().into_iter().flatten();
    let mut values = members.filter(|(known, _)| name == "<name>" || *known == name).map(|(_, value)| value);
    values.any(|value| match value {
        _ if rest.is_empty() => true,
        Json::Array(items) => items.iter().any(|item| uses(item, rest)),
        value => uses(value, rest),
    })
}

/// Every word below `shape` with its place, itself and what is said of it.
fn each(shape: &Shape, place: &str, take: &mut impl FnMut(&str, Option<&Shape>, bool, &str)) {
    match shape {
        Shape::Object(object) => fields(object, place, take),
        Shape::List { of, .. } => each(of, &format!("{place}[]"), take),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| each(shape, place, take)),
        _ => {}
    }
}

fn fields(object: &Object, place: &str, take: &mut impl FnMut(&str, Option<&Shape>, bool, &str)) {
    let under = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    for field in object.fields {
        take(&under(field.name), field.shape.as_ref(), field.required, field.note);
        if let Some(shape) = &field.shape {
            each(shape, &under(field.name), take);
        }
    }
    if let Some(rest) = &object.rest {
        let named = under("<name>");
        take(&named, Some(&rest.of), false, "");
        each(&rest.of, &named, take);
    }
}

/// What a value looks like, in a table: objects are described by their own rows.
fn say(shape: &Shape) -> String {
    match shape {
        Shape::Object(Object { rest: Some(_), .. }) => String::from("names and their values"),
        Shape::List { of: Shape::Object(_), .. } => String::from("a list of objects"),
        shape => shape.say(),
    }
    .replace('|', "\\|")
}
