//! Values become [`Node`]s, to be written as YAML.

use crate::config::tree::{Kind, Member, Node};

pub(super) fn text(text: &str) -> Node {
    Node { line: 0, kind: Kind::Text(text.to_owned()) }
}

pub(super) const fn whole(number: i64) -> Node {
    Node { line: 0, kind: Kind::Integer(number) }
}

pub(super) const fn truth(value: bool) -> Node {
    Node { line: 0, kind: Kind::Bool(value) }
}

pub(super) fn list(items: impl IntoIterator<Item = Node>) -> Node {
    Node { line: 0, kind: Kind::List(items.into_iter().collect()) }
}

pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    let member = |(name, node): (&str, Node)| Member { name: name.to_owned(), node };
    Node { line: 0, kind: Kind::Object(fields.into_iter().map(member).collect()) }
}

/// What stands at a pointer of names and indices without escapes.
pub(super) fn at<'a>(root: &'a Node, pointer: &str) -> Option<&'a Node> {
    pointer.split('/').skip(1).try_fold(root, |node, part| match &node.kind {
        Kind::List(items) => items.get(part.parse::<usize>().ok()?),
        Kind::Object(members) => members.iter().find(|member| member.name == part).map(|member| &member.node),
        _ => None,
    })
}

/// Writes a field of the object at `pointer`; `None` where there is no object.
pub(super) fn set(root: &mut Node, pointer: &str, name: &str, value: Node) -> Option<()> {
    let members = members_at(root, pointer)?;
    match members.iter_mut().find(|member| member.name == name) {
        Some(member) => member.node = value,
        None => members.push(Member { name: name.to_owned(), node: value }),
    }
    Some(())
}

/// Takes a field out of the object at `pointer`; `None` where there is none.
pub(super) fn take(root: &mut Node, pointer: &str, name: &str) -> Option<Node> {
    let members = members_at(root, pointer)?;
    let place = members.iter().position(|member| member.name == name)?;
    Some(members.remove(place).node)
}

fn members_at<'a>(root: &'a mut Node, pointer: &str) -> Option<&'a mut Vec<Member>> {
    let mut node = root;
    for part in pointer.split('/').skip(1) {
        node = match &mut node.kind {
            Kind::List(items) => items.get_mut(part.parse::<usize>().ok()?)?,
            Kind::Object(members) => {
                members.iter_mut().find(|member| member.name == part).map(|m| &mut m.node)?
            }
            _ => return None,
        };
    }
    match &mut node.kind {
        Kind::Object(members) => Some(members),
        _ => None,
    }
}
