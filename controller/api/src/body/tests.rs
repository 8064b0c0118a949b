//! Coercions and bounds, one table each.

use serde_json::json;

use super::*;

fn field<T>(value: Value, take: impl FnOnce(&mut Fields) -> Result<T, Fault>) -> Result<T, Fault> {
    read(json!({"f": value}), "a.b", take)
}

#[test]
fn integers_are_read_from_numbers_and_texts() {
    for (value, number) in [
        (json!(80), 80),
        (json!("80"), 80),
        (json!(" 80 "), 80),
        (json!(80.9), 80),
        (json!(-0.9), 0),
        (json!("-1"), -1),
    ] {
        assert_eq!(
            field(value.clone(), |f| f.integer::<i64>("f", -1, 100)),
            Ok(Given::Value(number)),
            "{value}"
        );
    }
    for value in [
        json!(true),
        json!("8o"),
        json!([]),
        json!({}),
        json!(""),
        json!(101),
        json!(-2),
        json!(1e20),
    ] {
        assert!(
            field(value.clone(), |f| f.integer::<i64>("f", -1, 100)).is_err(),
            "{value}"
        );
    }
}

#[test]
fn booleans_are_read_from_every_unambiguous_spelling() {
    for value in [
        json!(true),
        json!(1),
        json!("true"),
        json!("YES"),
        json!("On"),
        json!("t"),
        json!("y"),
        json!("1"),
    ] {
        assert_eq!(
            field(value.clone(), |f| f.boolean("f")),
            Ok(Given::Value(true)),
            "{value}"
        );
    }
    for value in [
        json!(false),
        json!(0),
        json!("False"),
        json!("no"),
        json!("OFF"),
        json!("f"),
        json!("n"),
        json!("0"),
    ] {
        assert_eq!(
            field(value.clone(), |f| f.boolean("f")),
            Ok(Given::Value(false)),
            "{value}"
        );
    }
    for value in [
        json!(2),
        json!(1.5),
        json!("maybe"),
        json!(""),
        json!([]),
        json!({}),
    ] {
        assert!(field(value.clone(), |f| f.boolean("f")).is_err(), "{value}");
    }
}

#[test]
fn texts_are_counted_in_characters() {
    assert!(field(json!("é".repeat(255)), |f| f.text("f", 255)).is_ok());
    assert!(field(json!("é".repeat(256)), |f| f.text("f", 255)).is_err());
}

#[test]
fn nothing_null_and_a_value_are_told_apart() {
    assert_eq!(read(json!({}), "a", |f| f.text("f", 9)), Ok(Given::Absent));
    assert_eq!(field(Value::Null, |f| f.text("f", 9)), Ok(Given::Null));
    assert_eq!(Given::<u8>::Absent.set(7), None);
    assert_eq!(Given::<u8>::Null.set(7), Some(7));
    assert_eq!(Given::<u8>::Null.clear(), Some(None));
    assert_eq!(Given::Value(1).clear(), Some(Some(1)));
}

#[test]
fn long_values_are_echoed_in_part() {
    let fault = field(json!("x".repeat(5000)), |f| f.uuid("f")).unwrap_err();
    assert!(fault.body()["faultstring"].as_str().unwrap().len() < 400);
}

#[test]
fn what_nobody_read_is_an_unknown_attribute() {
    let fault = field(json!(1), |_| Ok(())).unwrap_err();
    assert_eq!(
        fault,
        Fault::bad_request("Unknown attribute for argument a.b: f")
    );
}
