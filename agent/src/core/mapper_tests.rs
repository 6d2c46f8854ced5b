//! Tests of the mapper: what it changes, what it must not, what it refuses.

use serde_json::json;

use super::*;

fn bindings() -> BTreeMap<String, Binding> {
    let binding = |id: &str, credential_type: &str| Binding {
        n8n_id: id.into(),
        n8n_name: format!("genesis/{id}"),
        credential_type: credential_type.parse().unwrap(),
    };
    BTreeMap::from([
        ("TEMPLATE_SMTP_UUID".to_owned(), binding("c1", "smtp")),
        ("TEMPLATE_DB_UUID".to_owned(), binding("c2", "postgres")),
    ])
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A workflow of one node with these parameters and credentials.
fn workflow(parameters: Value, credentials: Value) -> Value {
    json!({"name": "W", "nodes": [{"name": "N", "parameters": parameters, "credentials": credentials}],
           "connections": {}, "settings": {}})
}

fn mapped_parameter(text: &str, pairs: &[(&str, &str)]) -> Result<String, Vec<Problem>> {
    let mapped = map(&workflow(json!({"text": text}), json!({})), &bindings(), &variables(pairs))?;
    Ok(mapped["nodes"][0]["parameters"]["text"].as_str().unwrap().to_owned())
}

#[test]
fn binds_id_and_name_of_each_credential_reference() {
    let template = workflow(json!({}), json!({"smtp": {"id": "TEMPLATE_SMTP_UUID", "name": "TEMPLATE_SMTP", "x": 1}}));
    let mapped = map(&template, &bindings(), &BTreeMap::new()).unwrap();
    assert_eq!(mapped["nodes"][0]["credentials"]["smtp"], json!({"id": "c1", "name": "genesis/c1", "x": 1}));
}

#[test]
fn inserts_values_as_data_whatever_they_contain() {
    for value in
        [r#"O'Brien "Bob" \ "#, "line\nline\r\n\t", "$& $1 $$ $`", "Zoë 🦀 \u{202e}", "YOUR_NAME", "", "{}{{}}"]
    {
        assert_eq!(mapped_parameter("Dear YOUR_NAME!", &[("YOUR_NAME", value)]).unwrap(), format!("Dear {value}!"));
    }
}

#[test]
fn what_was_inserted_is_not_searched_again() {
    let pairs = [("YOUR_A", "YOUR_B"), ("YOUR_B", "x")];
    assert_eq!(mapped_parameter("YOUR_A YOUR_B", &pairs).unwrap(), "YOUR_B x");
}

#[test]
fn the_longest_placeholder_wins() {
    let pairs = [("YOUR_LINK_1", "one"), ("YOUR_LINK_10", "ten"), ("YOUR_LINK", "none")];
    assert_eq!(mapped_parameter("YOUR_LINK_10,YOUR_LINK_1,YOUR_LINK.", &pairs).unwrap(), "ten,one,none.");
    let refused = mapped_parameter("YOUR_LINK_10", &pairs[..1]).unwrap_err();
    assert!(matches!(&refused[0], Problem::UnknownPlaceholder { token, .. } if token == "YOUR_LINK_10"));
}

#[test]
fn a_placeholder_is_found_whatever_stands_before_it() {
    let pairs = [("YOUR_NAME", "x")];
    for text in ["your_name", "YOUR_", "YOUR NAME", "TEMPLATE_ENGINE"] {
        assert_eq!(mapped_parameter(text, &pairs).unwrap(), text);
    }
    assert_eq!(mapped_parameter("v1_YOUR_NAME \\nYOUR_NAME", &pairs).unwrap(), "v1_x \\nx");
    assert_eq!(mapped_parameter("äYOUR_NAMEä YOUR_NAMEs", &pairs).unwrap(), "äxä xs");
}

#[test]
fn keys_and_non_strings_are_not_touched() {
    let parameters = json!({"YOUR_NAME": true, "n": 1, "list": ["YOUR_NAME", null]});
    let mapped = map(&workflow(parameters, json!({})), &bindings(), &variables(&[("YOUR_NAME", "x")])).unwrap();
    assert_eq!(mapped["nodes"][0]["parameters"], json!({"YOUR_NAME": true, "n": 1, "list": ["x", null]}));
}

#[test]
fn everything_else_survives_byte_for_value() {
    let text = r#"{"name":"W","nodes":[{"name":"N","typeVersion":2.10,"webhookId":"w","disabled":true,"parameters":{"big":123456789012345678901234567890.50,"e":1e+400},"position":[-0.0,1]}],"connections":{"N":{"main":[[]]}},"settings":{"executionOrder":"v1","binaryMode":"separate"},"pinData":{"N":[{"json":{"a":9007199254740993}}]},"meta":null}"#;
    let template = genesis_shared::json::parse(text.as_bytes()).unwrap();
    assert_eq!(map(&template, &bindings(), &BTreeMap::new()).unwrap().to_string(), text);
}

#[test]
fn lists_every_problem_and_maps_nothing() {
    let template = json!({"name": "W", "connections": {}, "nodes": [
        {"name": "A", "credentials": {"smtp": {"id": "TEMPLATE_DB_UUID"}, "openAiApi": {"id": "real-id"}}},
        {"name": "B", "credentials": {"smtp": null, "postgres": "TEMPLATE_DB_UUID"}},
        {"name": "C", "parameters": {"url": "https://YOUR_HOST/", "id": "TEMPLATE_SMTP_UUID"}},
    ]});
    let problems = map(&template, &bindings(), &BTreeMap::new()).unwrap_err();
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(problems.len(), 6, "{text}");
    for part in [
        "type smtp",
        "\"real-id\"",
        "for smtp",
        "for postgres",
        "YOUR_HOST",
        "TEMPLATE_SMTP_UUID",
        "nodes[2].parameters.url",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn refuses_what_is_no_workflow() {
    for template in [json!(null), json!([]), json!({}), json!({"name": 1, "nodes": {}, "connections": []}), json!("x")]
    {
        let problems = map(&template, &bindings(), &BTreeMap::new()).unwrap_err();
        assert!(matches!(problems[0], Problem::NotAWorkflow(_)), "{problems:?}");
    }
}

#[test]
fn a_value_cannot_become_an_expression_or_code() {
    let unsafe_value = |text: &str, value: &str| {
        let problems = mapped_parameter(text, &[("YOUR_NAME", value)]).unwrap_err();
        assert!(problems.iter().any(|p| matches!(p, Problem::UnsafeValue { .. })), "{problems:?}");
    };
    unsafe_value("YOUR_NAME", "={{ $env.SECRET }}");
    unsafe_value("=Hello YOUR_NAME", "{{ $env.SECRET }}");
    unsafe_value("={{ 'YOUR_NAME' }}", "' + $env.SECRET + '");
    let code = workflow(json!({"jsCode": "const n = 'YOUR_NAME';"}), json!({}));
    assert!(map(&code, &bindings(), &variables(&[("YOUR_NAME", "O'Brien")])).is_err());
    let body = workflow(json!({"jsonBody": "={ \"name\": \"YOUR_NAME\" }"}), json!({}));
    assert!(map(&body, &bindings(), &variables(&[("YOUR_NAME", "a\", \"admin\": \"yes")])).is_err());
    let statement = workflow(json!({"query": "SELECT * FROM YOUR_TABLE"}), json!({}));
    assert!(map(&statement, &bindings(), &variables(&[("YOUR_TABLE", "leads; DROP TABLE x")])).is_err());
    assert!(map(&statement, &bindings(), &variables(&[("YOUR_TABLE", "genesis.leads_p_acme")])).is_ok());
    // The literal part of an expression takes any text that opens no braces.
    assert_eq!(
        mapped_parameter("=Hi YOUR_NAME {{ 1 }}", &[("YOUR_NAME", "O'B \"x\"")]).unwrap(),
        "=Hi O'B \"x\" {{ 1 }}"
    );
}

#[test]
fn refuses_a_placeholder_where_nodes_are_referred_to_by_name() {
    let template =
        json!({"name": "YOUR_NAME", "nodes": [{"name": "Mail YOUR_NAME"}], "connections": {"Mail YOUR_NAME": {}}});
    let problems = map(&template, &bindings(), &variables(&[("YOUR_NAME", "x")])).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| matches!(problem, Problem::PlaceholderInName { .. })));
}

#[test]
fn refuses_a_variable_with_an_impossible_name() {
    let problems = map(&workflow(json!({}), json!({})), &bindings(), &variables(&[("name", "x")])).unwrap_err();
    assert_eq!(problems, [Problem::BadVariableName("name".into())]);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_without_placeholders_is_unchanged(text in "\\PC*") {
            prop_assume!(next_token(&text).is_none());
            prop_assert_eq!(mapped_parameter(&text, &[("YOUR_NAME", "x")]).unwrap(), text);
        }

        #[test]
        fn any_value_lands_unchanged_in_a_plain_text(value in any::<String>()) {
            let mapped = mapped_parameter("a YOUR_NAME b", &[("YOUR_NAME", &value)]).unwrap();
            prop_assert_eq!(mapped, format!("a {value} b"));
        }

        #[test]
        fn never_panics_on_any_text(text in any::<String>(), value in any::<String>()) {
            drop(mapped_parameter(&text, &[("YOUR_NAME", &value)]));
        }
    }
}
