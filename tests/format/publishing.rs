//! Publishing: what is replaced, what never is, and that a reader always sees a complete generation.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use neuralcf::{Error, format::publish};

use super::builder::{Directory, directory, open, write};

fn publish_files(files: &Directory, target: &Path) -> neuralcf::Result<()> {
    let staging = target.with_extension("staging");
    write(files, &staging);
    publish(&staging, target)
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_model_replaces_nothing_an_empty_directory_or_a_model() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("model");
    publish_files(&directory("first"), &target).unwrap();
    assert_eq!(open(&target).unwrap().model_id.as_deref(), Some("first"));

    fs::write(target.join("README.md"), "of the first").unwrap();
    publish_files(&directory("second"), &target).unwrap();
    assert_eq!(open(&target).unwrap().model_id.as_deref(), Some("second"));
    assert!(!target.join("README.md").exists());

    let link = place.path().join("link");
    symlink("model", &link).unwrap();
    publish_files(&directory("third"), &link).unwrap();
    assert!(link.is_symlink());
    assert_eq!(open(&target).unwrap().model_id.as_deref(), Some("third"));

    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    publish_files(&directory("fourth"), &empty).unwrap();
    assert_eq!(open(&empty).unwrap().model_id.as_deref(), Some("fourth"));
    assert_eq!(names(place.path()), ["empty", "link", "model"], "no staging directory is left");
}

#[test]
fn nothing_but_a_model_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let (file, other) = (place.path().join("file"), place.path().join("other"));
    fs::write(&file, "a file").unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "years of work").unwrap();
    let staging = place.path().join("staging");
    let rejected = |staging: &Path, target: &Path, fragment: &str| match publish(staging, target) {
        Err(Error::Argument(text)) => assert!(text.contains(fragment), "expected {fragment:?} in {text:?}"),
        result => panic!("{result:?}"),
    };
    rejected(&staging, &other, "staging: no model.safetensors to publish");
    write(&directory("m"), &staging);
    rejected(&staging, &file, "file: expected a directory to publish to, got a file");
    rejected(&staging, &other, "other: holds other files but no model.safetensors; not overwritten");
    rejected(&staging, &staging, "one is inside the other");
    rejected(&staging, &staging.join("inside"), "one is inside the other");
    assert!(matches!(publish(&staging, &place.path().join("no/where")), Err(Error::Io { .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "a file");
    assert_eq!(names(&other), ["thesis.tex"]);
    assert_eq!(names(&staging).len(), directory("m").len());
}

#[test]
fn readers_never_see_a_mix_of_generations() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("model");
    // Generation b has no optional files, so files vanish and reappear with every exchange.
    let (a, mut b) = (directory("a"), directory("b"));
    b.remove("seen.safetensors");
    b.remove("ids.safetensors");
    b.remove("history.safetensors");
    publish_files(&a, &target).unwrap();

    const CHANGES: usize = 200;
    let deadline = Instant::now() + Duration::from_secs(60);
    let read = || {
        let (mut changes, mut last) = (0, None);
        while changes < CHANGES && Instant::now() < deadline {
            let opened = open(&target).unwrap();
            let whole = opened.seen.is_some() && opened.users.is_some() && opened.items.is_some();
            let empty = opened.seen.is_none() && opened.users.is_none() && opened.items.is_none();
            match opened.model_id.as_deref() {
                Some("a") => assert!(whole, "a part of generation a is missing"),
                Some("b") => assert!(empty, "generation b has a part of a"),
                other => panic!("{other:?}"),
            }
            changes += usize::from(last.replace(empty) != Some(empty));
        }
        assert_eq!(changes, CHANGES, "changes seen");
    };
    thread::scope(|scope| {
        let readers = [(); 3].map(|()| scope.spawn(read));
        let mut generations = [&b, &a].into_iter().cycle();
        while readers.iter().any(|reader| !reader.is_finished()) {
            publish_files(generations.next().unwrap(), &target).unwrap();
        }
    });
}
