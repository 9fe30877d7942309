//! External ids: found by value, never coerced, unique.

use neuralcf::{
    Error,
    ids::{Id, Ids},
};

fn strings(ids: &[&str]) -> Ids {
    let mut offsets = vec![0];
    offsets.extend(ids.iter().scan(0, |end, id| {
        *end += id.len();
        Some(*end)
    }));
    Ids::from_strings(ids.concat().into_bytes(), offsets).unwrap()
}

#[test]
fn every_id_is_found_at_its_index() {
    // Consecutive ids, ids that are equal in their low bits, and extremes.
    let ints: Vec<i64> = (0..5000).chain((1..1000).map(|n| n << 40)).chain([i64::MIN, i64::MAX, -1]).collect();
    let ids = Ids::from_ints(ints.clone()).unwrap();
    assert_eq!(ids.len(), ints.len());
    for (index, &id) in ints.iter().enumerate() {
        assert_eq!((ids.find_int(id), ids.get(index)), (Some(index), Id::Int(id)));
    }
    assert_eq!([ids.find_int(5000), ids.find_int(-2)], [None, None]);
    assert!(ids.nbytes() >= ints.len() * 12);

    let texts: Vec<String> = (0..3000).map(|n| format!("{}ü{n}", "x".repeat(n % 5))).collect();
    let ids = strings(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    for (index, id) in texts.iter().enumerate() {
        assert_eq!((ids.find_str(id), ids.get(index)), (Some(index), Id::Str(id)));
    }
    assert_eq!([ids.find_str(""), ids.find_str("ü3000"), ids.find_str("xü")], [None; 3]);
}

#[test]
fn ids_are_never_coerced() {
    let (ints, texts) = (Ids::from_ints(vec![7]).unwrap(), strings(&["7", "07", " 7"]));
    assert_eq!((ints.find_int(7), ints.find_str("7")), (Some(0), None));
    assert_eq!((texts.find_str("7"), texts.find_str("07"), texts.find_int(7)), (Some(0), Some(1), None));
}

#[test]
fn invalid_id_lists() {
    let none = strings(&[]);
    assert!(none.is_empty() && none.find_str("").is_none());
    let rejected = |ids: neuralcf::Result<Ids>, fragment: &str| match ids {
        Err(Error::Argument(text)) => assert!(text.contains(fragment), "expected {fragment:?} in {text:?}"),
        other => panic!("{other:?}"),
    };
    rejected(Ids::from_ints(vec![4, 5, 4]), "duplicate id 4, at 0 and 2");
    rejected(Ids::from_strings(b"abab".to_vec(), vec![0, 2, 4]), "duplicate id \"ab\", at 0 and 1");
    rejected(Ids::from_strings(b"ab".to_vec(), vec![]), "offsets must run from 0 to the number of bytes, 2");
    rejected(Ids::from_strings(b"ab".to_vec(), vec![0, 3]), "offsets must run from 0 to the number of bytes, 2");
    rejected(Ids::from_strings(b"ab".to_vec(), vec![1, 2]), "offsets must run from 0 to the number of bytes, 2");
    rejected(Ids::from_strings(b"ab".to_vec(), vec![0, 2, 1, 2]), "offsets decrease from 2 to 1 at id 1");
    rejected(Ids::from_strings(b"ab".to_vec(), vec![0, 9, 2]), "offsets decrease from 9 to 2 at id 1");
    rejected(Ids::from_strings("aß".as_bytes().to_vec(), vec![0, 2, 3]), "the id at 0 is not valid UTF-8");
    rejected(Ids::from_strings(b"ab\xff".to_vec(), vec![0, 1, 3]), "the id at 1 is not valid UTF-8");
}

#[test]
fn ids_are_added_and_removed() {
    let loaded = strings(&["a", "b", "c"]);
    let (more, indices) = loaded.with_strings(&["d", "e"]).unwrap();
    assert_eq!(indices, [3, 4]);
    let fewer = more.without(&[1, 3]).unwrap();
    assert_eq!((loaded.len(), more.len(), fewer.len(), fewer.bound()), (3, 5, 3, 5));
    let found = |ids: &Ids| ["a", "b", "c", "d", "e"].map(|id| ids.find_str(id));
    assert_eq!(found(&loaded), [Some(0), Some(1), Some(2), None, None]);
    assert_eq!(found(&fewer), [Some(0), None, Some(2), None, Some(4)]);
    assert_eq!([0, 1, 2, 3, 4, 5].map(|index| fewer.has(index)), [true, false, true, false, true, false]);
    // What is back has its old index, what is new the next one.
    let (back, indices) = fewer.with_strings(&["f", "d", "b"]).unwrap();
    assert_eq!((indices, back.len()), (vec![5, 3, 1], 6));
    assert_eq!(found(&back), [0, 1, 2, 3, 4].map(Some));
    assert_eq!((back.find_str("f"), back.get(5)), (Some(5), Id::Str("f")));
    let gone = back.without(&[5]).unwrap();
    assert_eq!((gone.find_str("f"), gone.has(5)), (None, false));

    let rejected = |ids: neuralcf::Result<(Ids, Vec<u32>)>, text: &str| match ids {
        Err(Error::Argument(got)) => assert!(got.contains(text), "{got}"),
        other => panic!("{other:?}"),
    };
    rejected(more.with_strings(&["x", "a"]), "duplicate id \"a\"");
    rejected(more.with_strings(&["x", "x"]), "duplicate id \"x\"");
    rejected(more.with_ints(&[7]), "expected a string id, got 7");
    rejected(Ids::from_ints(vec![7]).unwrap().with_strings(&["7"]), "expected an integer id, got \"7\"");
    for wrong in [[1, 1], [1, 5]] {
        assert!(matches!(more.without(&wrong), Err(Error::OutOfRange(_))));
    }
}
