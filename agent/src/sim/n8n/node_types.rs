//! What n8n 2.8.4 knows about its node types, as far as publishing a workflow depends on it.
//!
//! `node-types.txt` was made from `GET /types/nodes.json`. One type a line: its name; `trigger`, or `webhook` for a
//! node that counts as one; then each credential that must be there, either always (`smtp`) or while a parameter has
//! one of the given values (`httpHeaderAuth?authentication=headerAuth!none`, the last word being its default). A
//! leading `2:` says that only versions from 2 on need it.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

static TYPES: LazyLock<BTreeMap<&'static str, NodeType>> =
    LazyLock::new(|| include_str!("node-types.txt").lines().filter_map(parse).collect());

/// One node type.
#[derive(Debug, Default)]
pub struct NodeType {
    /// It starts workflows by itself.
    pub trigger: bool,
    /// It counts as a trigger in the checks, for it can register a webhook.
    pub trigger_like: bool,
    needs: Vec<Need>,
}

#[derive(Debug)]
struct Need {
    credential: &'static str,
    from_version: f64,
    when: Option<(&'static str, Vec<&'static str>, &'static str)>,
}

impl NodeType {
    /// The credentials that a node of this type, version and parameters must name.
    pub fn needs<'a>(&'a self, version: f64, parameters: &'a Value) -> impl Iterator<Item = &'static str> + 'a {
        let needed = self.needs.iter().filter(move |need| version >= need.from_version && need.applies(parameters));
        needed.map(|need| need.credential)
    }
}

impl Need {
    fn applies(&self, parameters: &Value) -> bool {
        self.when.as_ref().is_none_or(|(parameter, values, default)| {
            values.contains(&parameters.get(parameter).and_then(Value::as_str).unwrap_or(default))
        })
    }
}

/// The type of that name, if n8n has it.
pub fn find(name: &str) -> Option<&'static NodeType> {
    TYPES.get(name)
}

fn parse(line: &'static str) -> Option<(&'static str, NodeType)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let mut kind = NodeType::default();
    for word in words {
        match word {
            "trigger" => (kind.trigger, kind.trigger_like) = (true, true),
            "webhook" => kind.trigger_like = true,
            need => kind.needs.push(parse_need(need)),
        }
    }
    Some((name, kind))
}

fn parse_need(word: &'static str) -> Need {
    let (from_version, word) = word.split_once(':').unwrap_or(("0", word));
    let from_version = from_version.parse().unwrap_or(0.0);
    let when = |condition: &'static str| {
        let (parameter, values) = condition.split_once('=')?;
        let (values, default) = values.split_once('!')?;
        Some((parameter, values.split('|').collect(), default))
    };
    match word.split_once('?') {
        Some((credential, condition)) => Need { credential, from_version, when: when(condition) },
        None => Need { credential: word, from_version, when: None },
    }
}
