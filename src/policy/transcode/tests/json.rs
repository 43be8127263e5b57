//! What JSON has a form of its own for, both ways, and how deep it may lie.

use std::time::{Duration, Instant};

use prost_reflect::Value as Field;

use super::*;

/// A service that gives back what it gets; each of its messages may hold any other.
fn all(more: &str) -> Transcode {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.proto");
    let imports = ["any", "timestamp", "duration", "field_mask", "struct", "wrappers", "empty"]
        .map(|name| format!("import \"google/protobuf/{name}.proto\";"))
        .concat();
    let message = "message All { int32 i = 1; int64 l = 2; uint32 u = 3; uint64 ul = 4; double d = 5; float f = 6; bool b = 7; string s = 8;
        bytes y = 9; E e = 10; repeated All many = 11; map<string, int32> named = 12; map<int64, All> by_number = 13; repeated string words = 14;
        google.protobuf.Any any = 15; google.protobuf.Timestamp ts = 16; google.protobuf.Duration dur = 17;
        google.protobuf.FieldMask mask = 18; google.protobuf.Struct st = 19; google.protobuf.Value val = 20;
        google.protobuf.DoubleValue wd = 21; google.protobuf.FloatValue wf = 22; google.protobuf.Int64Value wl = 23;
        google.protobuf.UInt64Value wul = 24; google.protobuf.StringValue ws = 25; google.protobuf.BoolValue wb = 26;
        oneof one { string first = 27; int32 second = 28; google.protobuf.NullValue none = 29; } All sub = 30;
        google.protobuf.Empty nothing = 31; optional int32 maybe = 32; google.protobuf.ListValue list = 33; repeated google.protobuf.Any anys = 34; }
        enum E { ZERO = 0; ONE = 1; }";
    let service = "service S { rpc Echo(All) returns (All) { option (google.api.http) = { post: \"/echo\" body: \"*\"
        additional_bindings { get: \"/q\" } additional_bindings { get: \"/ul\" response_body: \"ul\" }
        additional_bindings { get: \"/words\" response_body: \"words\" } additional_bindings { get: \"/sub\" response_body: \"sub\" }
        additional_bindings { get: \"/named\" response_body: \"named\" } additional_bindings { post: \"/many\" body: \"many\" } }; } }";
    let head = "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\";";
    std::fs::write(&file, format!("{head} {imports} {message} {service}")).unwrap();
    compile(&format!("{{ proto: ['{}']{more} }}", file.display())).unwrap()
}

/// What is written of a message on the wire.
fn shown(all: &Transcode, path: &str, wire: &[u8]) -> Result<String, String> {
    let found = all.find(&Verb::GET, path).unwrap();
    let mut answer = all.answer(found.binding, &[]);
    let mut framed = BytesMut::new();
    frame::put(wire, &mut framed);
    answer.push(&framed);
    let message = answer.message().map_err(|why| why.to_string())?;
    Ok(String::from_utf8(message.unwrap().1.to_vec()).unwrap())
}

fn message(all: &Transcode) -> DynamicMessage {
    DynamicMessage::new(all.pool.get_message_by_name("t.All").unwrap())
}

/// The wire of a message with one field, and below it one with another.
fn within(all: &Transcode, field: &str, values: &[(u32, Field)]) -> Vec<u8> {
    let mut whole = message(all);
    let Some(Field::Message(inner)) = whole.get_field_by_name_mut(field) else { panic!("{field} is no message") };
    for (number, value) in values {
        inner.set_field_by_number(*number, value.clone());
    }
    whole.encode_to_vec()
}

/// What lies in a field of this number.
fn put(number: u32, value: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(value.len() + 10);
    prost::encoding::bytes::encode(number, &value.to_vec(), &mut field);
    field
}

/// So many of `google.protobuf.Any` within each other.
fn nested_any(levels: usize) -> Vec<u8> {
    (1..levels).fold(put(1, b"a/google.protobuf.Any"), |inner, _| {
        let [mut outer, value] = [put(1, b"a/google.protobuf.Any"), put(2, &inner)];
        outer.extend(value);
        outer
    })
}

const TOO_DEEP: &str = "more than 100 messages lie within each other";

#[test]
fn no_answer_lies_deeper_than_a_stack_holds() {
    let all = all("");
    let fine = shown(&all, "/q", &put(15, &nested_any(99))).unwrap();
    assert_eq!(fine.matches("@type").count(), 99);
    for levels in [101, 2000] {
        let said = shown(&all, "/q", &put(15, &nested_any(levels)));
        assert!(said.as_ref().is_err_and(|why| why.contains(TOO_DEEP)), "{levels}: {said:?}");
    }
    // Messages and what they hold count together, and the last one may hold as much as may be read at once.
    let mut subs = Vec::new();
    for level in 0..98 {
        subs = if level % 49 == 48 { put(15, &[put(1, b"a/t.All"), put(2, &subs)].concat()) } else { put(30, &subs) };
    }
    assert!(shown(&all, "/q", &subs).is_ok());
    let outer = (0..99).fold(put(15, &nested_any(50)), |inner, _| put(30, &inner));
    assert!(shown(&all, "/q", &outer).is_err());
    let wide = [put(1, b"a/google.protobuf.BytesValue"), put(2, &put(1, &vec![7; 3 << 20]))].concat();
    let deep = (0..98).fold(wide, |inner, _| [put(1, b"a/google.protobuf.Any"), put(2, &inner)].concat());
    let begun = Instant::now();
    assert!(shown(&all, "/q", &put(15, &deep)).is_ok());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn details_of_an_error_that_lie_too_deep_come_as_they_are() {
    let all = all("");
    let details = put(3, &[put(1, b"a/google.protobuf.Any"), put(2, &nested_any(3000))].concat());
    let mut fields = http::HeaderMap::new();
    fields.insert("grpc-status", "5".parse().unwrap());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, details);
    fields.insert("grpc-status-details-bin", text.parse().unwrap());
    let problem = all.problem(&Status::of(&fields).unwrap(), "id");
    assert_eq!(problem["details"][0]["@type"], "a/google.protobuf.Any");
    assert!(problem["details"][0]["value"].is_string(), "{problem}");
}

#[test]
fn one_field_of_an_answer_is_that_field() {
    let always = all(", print: { default_fields: true }");
    let mut whole = message(&always);
    whole.set_field_by_name("ul", Field::U64(5));
    whole.set_field_by_name("words", Field::List(vec![Field::String("a".to_owned())]));
    whole.set_field_by_name("i", Field::I32(7));
    let wire = whole.encode_to_vec();
    for (path, wanted, default) in
        [("/ul", "\"5\"", "\"0\""), ("/words", "[\"a\"]", "[]"), ("/named", "{}", "{}"), ("/sub", "null", "null")]
    {
        assert_eq!(shown(&always, path, &wire).unwrap(), wanted, "{path}");
        assert_eq!(shown(&always, path, &[]).unwrap(), default, "{path}");
        assert_eq!(shown(&all(""), path, &[]).unwrap(), default, "{path}");
    }
}

#[test]
fn numbers_that_are_none_are_texts_wherever_they_stand() {
    let all = all("");
    let told = |field, value| shown(&all, "/q", &within(&all, field, &[(1, value)])).unwrap();
    assert_eq!(told("wd", Field::F64(f64::NAN)), r#"{"wd":"NaN"}"#);
    assert_eq!(told("wd", Field::F64(f64::NEG_INFINITY)), r#"{"wd":"-Infinity"}"#);
    assert_eq!(told("wf", Field::F32(f32::INFINITY)), r#"{"wf":"Infinity"}"#);
    assert_eq!(told("wf", Field::F32(0.1)), r#"{"wf":0.1}"#);
    assert_eq!(shown(&all, "/q", &within(&all, "wd", &[])).unwrap(), r#"{"wd":0.0}"#);
    // The wire says -0.0, which is not what is left out.
    assert_eq!(shown(&all, "/q", b"\x29\0\0\0\0\0\0\0\x80\x35\0\0\0\x80").unwrap(), r#"{"d":-0.0,"f":-0.0}"#);
    let not_finite = within(&all, "val", &[(2, Field::F64(f64::NAN))]);
    assert!(shown(&all, "/q", &not_finite).is_err());
}

#[test]
fn what_a_known_message_cannot_mean_is_no_answer() {
    let all = all("");
    let told = |field, seconds, nanos| {
        shown(&all, "/q", &within(&all, field, &[(1, Field::I64(seconds)), (2, Field::I32(nanos))]))
    };
    assert_eq!(told("ts", 1, 120_000_000).unwrap(), r#"{"ts":"1970-01-01T00:00:01.120Z"}"#);
    assert_eq!(told("ts", -62_135_596_800, 0).unwrap(), r#"{"ts":"0001-01-01T00:00:00Z"}"#);
    assert_eq!(told("ts", 253_402_300_799, 999_999_999).unwrap(), r#"{"ts":"9999-12-31T23:59:59.999999999Z"}"#);
    for (seconds, nanos) in
        [(253_402_300_799, 1_000_000_000), (253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (i64::MIN, i32::MIN)]
    {
        assert!(told("ts", seconds, nanos).is_err(), "{seconds} {nanos}");
    }
    assert_eq!(told("dur", 0, -5).unwrap(), r#"{"dur":"-0.000000005s"}"#);
    assert_eq!(told("dur", -1, -500_000_000).unwrap(), r#"{"dur":"-1.500s"}"#);
    for (seconds, nanos) in [(1, -1), (-1, 1), (315_576_000_001, 0), (0, i32::MIN), (i64::MIN, 0)] {
        assert!(told("dur", seconds, nanos).is_err(), "{seconds} {nanos}");
    }
    let mask = |path: &str| {
        shown(&all, "/q", &within(&all, "mask", &[(1, Field::List(vec![Field::String(path.to_owned())]))]))
    };
    assert_eq!(mask("foo_bar.baz_qux").unwrap(), r#"{"mask":"fooBar.bazQux"}"#);
    for path in ["fooBar", "a__b", "a_1"] {
        assert!(mask(path).is_err(), "{path}");
    }
    assert_eq!(shown(&all, "/q", &within(&all, "any", &[])).unwrap(), r#"{"any":{}}"#);
    let any = |url: &str, value: &'static [u8]| {
        shown(&all, "/q", &within(&all, "any", &[(1, Field::String(url.to_owned())), (2, Field::Bytes(value.into()))]))
    };
    assert_eq!(any("a/t.All", b"\x08\x05").unwrap(), r#"{"any":{"@type":"a/t.All","i":5}}"#);
    assert_eq!(
        any("a/google.protobuf.Empty", b"").unwrap(),
        r#"{"any":{"@type":"a/google.protobuf.Empty","value":{}}}"#
    );
    for (url, value) in [("", &b"\x08\x05"[..]), ("t.All", b""), ("a/t.None", b""), ("a/t.All", b"\xff")] {
        assert!(any(url, value).is_err(), "{url}");
    }
}

/// What is read of a body, as it would be written again.
fn echoed(all: &Transcode, body: &str) -> String {
    match told(all, "POST /echo", body).1 {
        Value::Array(messages) => messages[0].to_string(),
        wrong => wrong.as_str().unwrap().to_owned(),
    }
}

#[test]
fn what_is_out_of_range_is_named() {
    let all = all("");
    let story = [
        (r#"{"l":9223372036854775808}"#, "#/l "),
        (r#"{"l":9223372036854775808.0}"#, "#/l "),
        (r#"{"l":-9223372036854775809}"#, "#/l "),
        (r#"{"ul":18446744073709551616}"#, "#/ul "),
        (r#"{"ul":-1}"#, "#/ul "),
        (r#"{"wl":9.3e18}"#, "#/wl "),
        (r#"{"wul":18446744073709551616.0}"#, "#/wul "),
        (r#"{"sub":{"many":[{},{"i":2147483648}]}}"#, "#/sub/many/1/i "),
        (r#"{"named":{"a/b":1.5}}"#, "#/named/a~1b "),
        (r#"{"f":1e39}"#, "#/f "),
        (r#"{"f":"1e39"}"#, "#/f "),
        (r#"{"d":"1e400"}"#, "#/d "),
        (r#"{"d":1e400}"#, "#/d "),
        (r#"{"d":"inf"}"#, "#/d "),
        (r#"{"d":"nan"}"#, "#/d "),
        (r#"{"f":"infinity"}"#, "#/f "),
        (r#"{"wd":"+Infinity"}"#, "#/wd "),
        (r#"{"val":"Infinity","b":1}"#, "#/b "),
        (r#"{"any":{"l":9223372036854775808,"@type":"a/t.All"}}"#, "#/any/l "),
        (r#"{"i":null,"many":[null]}"#, "#/many/0 "),
        (r#"{"e":"TWO"}"#, "#/e "),
        (r#"{"y":"a*"}"#, "#/y "),
        (r#"{"first":"a","second":0}"#, "# "),
    ];
    for (body, at) in story {
        let said = echoed(&all, body);
        assert!(said.starts_with(at), "{body}: {said}");
    }
    for query in ["d=1e400", "f=1e39", "d=inf", "d=nan", "f=-infinity", "wd=Inf", "l=9223372036854775808", "wul=-1"] {
        let (name, _) = query.split_once('=').unwrap();
        let said = told(&all, &format!("GET /q?{query}"), "").1;
        assert!(said.as_str().is_some_and(|said| said.starts_with(&format!("{name} has to be"))), "{query}: {said}");
    }
    let most = r#"{"i":-2147483648,"l":"-9223372036854775808","ul":"18446744073709551615","d":"-Infinity","f":0.5,"wd":"NaN"}"#;
    assert_eq!(
        serde_json::from_str::<Value>(&echoed(&all, most)).unwrap(),
        serde_json::from_str::<Value>(most).unwrap()
    );
    assert!(echoed(&all, r#"{"f":3.4028235e38}"#).starts_with(r#"{"f":3.40282"#), "the largest of 32 bits");
    for zero in [r#"{"d":-0.0}"#, r#"{"f":-0.0,"many":[{}]}"#, r#"{"sub":{"d":-0.0,"s":"x","sub":{"wd":-0.0}}}"#] {
        assert_eq!(echoed(&all, zero), zero);
    }
    assert_eq!(told(&all, "GET /q?f=-0", "").1.to_string(), r#"[{"f":-0.0}]"#);
    let spelled = r#"{"i":"1e2","l":"100.0","ul":1.0,"d":"1.5e3","wl":5,"wul":"6","e":1,"y":"-_8"}"#;
    assert_eq!(
        echoed(&all, spelled),
        r#"{"d":1500.0,"e":"ONE","i":100,"l":"100","ul":"1","wl":"5","wul":"6","y":"+/8="}"#
    );
    assert_eq!(
        told(&all, "GET /q?d=NaN&f=-Infinity&wd=1e3", "").1,
        json!([{ "d": "NaN", "f": "-Infinity", "wd": 1000.0 }])
    );
}

#[test]
fn nothing_is_read_twice() {
    let all = all("");
    for twice in [
        r#"{"s":"a","s":"b"}"#,
        r#"{"ul":1,"ul":null}"#,
        r#"{"byNumber":{},"by_number":{}}"#,
        r#"{"sub":{"s":"a","s":"b"}}"#,
        r#"{"named":{"a":1,"a":2}}"#,
        r#"{"byNumber":{"1":{},"01":{}}}"#,
        r#"{"st":{"a":1,"a":2}}"#,
        r#"{"val":[{"a":1,"a":2}]}"#,
        r#"{"any":{"@type":"a/t.All","@type":"a/t.All"}}"#,
        r#"{"any":{"s":"a","@type":"a/t.All","s":"b"}}"#,
        r#"{"any":{"sub":{"s":"a","s":"b"},"@type":"a/t.All"}}"#,
        r#"{"any":{"value":"1s","@type":"a/google.protobuf.Duration","value":"2s"}}"#,
    ] {
        let said = echoed(&all, twice);
        assert!(said.contains("twice"), "{twice}: {said}");
    }
    let lax = self::all(", ignore_unknown: true");
    assert_eq!(
        echoed(&lax, r#"{"x":1,"x":2,"e":"TWO","any":{"x":1,"@type":"a/t.All","x":2,"i":3}}"#),
        r#"{"any":{"@type":"a/t.All","i":3}}"#
    );
    assert!(echoed(&lax, r#"{"any":{"@type":"a/t.All","@type":"a/t.All"}}"#).contains("twice"));
}

#[test]
fn what_has_a_form_of_its_own_is_read_by_it_and_strictly() {
    let all = all("");
    for same in [
        r#"{"any":{}}"#,
        r#"{"any":{"@type":"a/t.All","i":5}}"#,
        r#"{"any":{"@type":"a/google.protobuf.Any","value":{"@type":"a/google.protobuf.Duration","value":"1.500s"}}}"#,
        r#"{"any":{"@type":"a/google.protobuf.Value","value":null}}"#,
        r#"{"anys":[{"@type":"a/google.protobuf.Empty","value":{}},{}]}"#,
        r#"{"ts":"2020-01-02T03:04:05.123456789Z"}"#,
        r#"{"dur":"-0.000000001s"}"#,
        r#"{"mask":"a,fooBar.bazQux"}"#,
        r#"{"st":{"a":[1.0,null,{"b":"x"}],"c":true}}"#,
        r#"{"val":null}"#,
        r#"{"list":[[],{}]}"#,
        r#"{"none":null}"#,
        r#"{"nothing":{}}"#,
        r#"{"maybe":0}"#,
        r#"{"wb":false,"ws":""}"#,
        r#"{"byNumber":{"-2":{},"1":{"s":"x"}}}"#,
    ] {
        assert_eq!(echoed(&all, same), same);
    }
    assert_eq!(
        echoed(&all, r#"{"any":{"value":"1s","@type":"a/google.protobuf.Duration"}}"#),
        r#"{"any":{"@type":"a/google.protobuf.Duration","value":"1s"}}"#
    );
    assert_eq!(echoed(&all, r#"{"ts":"2020-01-02T03:04:05+01:30"}"#), r#"{"ts":"2020-01-02T01:34:05Z"}"#);
    assert_eq!(echoed(&all, r#"{"sub":null,"many":null,"i":null,"first":null,"second":0}"#), r#"{"second":0}"#);
}

#[test]
fn what_a_known_message_cannot_be_is_named() {
    let all = all("");
    for ts in [
        "9999-12-31T23:59:60Z",
        "2020-01-02T03:04:05.1234567891Z",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "2020-02-30T00:00:00Z",
        "2020-01-02t03:04:05z",
        "2020-01-02T24:00:00Z",
        "2020-01-02T03:04:05.Z",
        "2020-01-02T03:04:05",
        "2020-01-02T03:04:05Z ",
        "2020-01-02T03:04:05+25:00",
        "",
    ] {
        assert!(echoed(&all, &json!({ "ts": ts }).to_string()).starts_with("#/ts "), "{ts}");
    }
    for dur in [
        "1",
        "s",
        "1.s",
        ".5s",
        "1.0000000001s",
        "--1s",
        "1.-5s",
        "+1s",
        "1e3s",
        "315576000001s",
        "99999999999999999999s",
        "",
    ] {
        assert!(echoed(&all, &json!({ "dur": dur }).to_string()).starts_with("#/dur "), "{dur}");
    }
    for any in [
        r#"{"i":5}"#,
        r#"{"@type":""}"#,
        r#"{"@type":"a/t.None"}"#,
        r#"{"@type":"a/t.All","x":1}"#,
        r#"{"@type":"a/google.protobuf.Duration"}"#,
        r#"{"@type":"a/google.protobuf.Duration","value":"1s","x":1}"#,
    ] {
        assert!(echoed(&all, &format!(r#"{{"any":{any}}}"#)).starts_with("#/any"), "{any}");
    }
}

#[test]
fn no_request_lies_too_deep_either() {
    let all = all("");
    let nested = |levels: usize, last: bool| {
        let (before, after) = if last {
            (r#"{"value":"#, r#","@type":"a/google.protobuf.Any"}"#)
        } else {
            (r#"{"@type":"a/google.protobuf.Any","value":"#, "}")
        };
        format!(r#"{{"any":{}{{}}{}}}"#, before.repeat(levels), after.repeat(levels))
    };
    for last in [false, true] {
        assert_eq!(echoed(&all, &nested(98, last)).matches("@type").count(), 98);
        for levels in [101, 120, 6000] {
            let said = echoed(&all, &nested(levels, last));
            assert!(said.starts_with("#/any"), "{levels}: {said}");
        }
    }
    let subs = |levels: usize| format!("{}{}", r#"{"sub":"#.repeat(levels) + "{}", "}".repeat(levels));
    assert!(echoed(&all, &subs(90)).starts_with('{'));
    assert!(echoed(&all, &subs(101)).contains(TOO_DEEP));
}
