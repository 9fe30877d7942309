//! Models are read as they were written, from a file of any layout and from arrays in memory.

use std::{
    io::{self, ErrorKind, Read},
    path::Path,
    time::Duration,
};

use half::{bf16, f16};
use neuralcf::{
    Error,
    format::{Kind, Model, Table, TensorInfo, read_model},
};

use super::builder::{Container, gmf, join, neumf, open, read, refusal, values};

fn rows(table: &Table) -> Vec<f32> {
    (0..table.rows()).flat_map(|row| table.row(row)).copied().collect()
}

/// Checks every number of a model made from [`neumf`].
fn assert_neumf(model: Model) {
    assert_eq!((model.kind(), model.num_users(), model.num_items()), (Kind::NeuMf, 3, 4));
    let parts = model.into_parts();
    let (gmf, mlp) = (parts.gmf.unwrap(), parts.mlp.unwrap());
    assert_eq!((rows(&gmf.users), rows(&gmf.items)), (values(6), values(8)));
    assert_eq!((rows(&mlp.users), rows(&mlp.items)), (values(6), values(12)));
    assert_eq!((gmf.users.width(), mlp.items.width(), mlp.items.max_abs(), mlp.items.nbytes()), (2, 3, 2.0, 48));
    let layers: Vec<_> =
        mlp.layers.iter().map(|layer| (layer.inputs, layer.outputs, &layer.weight, &layer.bias)).collect();
    assert_eq!(layers, [(5, 4, &values(20), &values(4)), (4, 2, &values(8), &values(2))]);
    assert_eq!((parts.output_weight, parts.output_bias), (values(4), values(1)[0]));
}

#[test]
fn models_are_read_from_any_float_type_and_any_order() {
    assert_neumf(read(&neumf().bytes()).unwrap());
    for dtype in ["F16", "BF16"] {
        let mut file = neumf();
        for (position, tensor) in file.tensors.iter_mut().enumerate() {
            // Every third tensor stays F32.
            if position % 3 != 0 {
                let values = values(tensor.data.len() / 4);
                tensor.dtype = dtype;
                tensor.data = match dtype {
                    "F16" => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
                    _ => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
                };
            }
        }
        file.tensors.reverse();
        assert_neumf(read(&file.bytes()).unwrap());
    }
}

#[test]
fn additional_metadata_are_kept() {
    let mut file = gmf();
    file.metadata.insert("model_id".to_owned(), "m-1".to_owned());
    file.metadata.insert("note".to_owned(), "ü\n\"".to_owned());
    let model = read(&file.bytes()).unwrap();
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    assert!(model.metadata().iter().map(owned).eq(file.metadata.clone()), "{:?}", model.metadata());
    assert_eq!([model.metadata().get("note"), model.metadata().get("no")], [Some("ü\n\""), None]);

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("alone.safetensors");
    std::fs::write(&path, file.bytes()).unwrap();
    let opened = open(&path).unwrap();
    assert_eq!(opened.model_id.as_deref(), Some("m-1"));
    assert!(opened.seen.is_none() && opened.users.is_none() && opened.items.is_none());
}

#[test]
fn the_smallest_model_has_one_user_one_item_and_one_unit() {
    let metadata = [("format", "neuralcf"), ("format_version", "1"), ("kind", "mlp"), ("activation", "relu")];
    let mut file = Container::new(&metadata);
    for name in ["mlp.user_embedding.weight", "mlp.item_embedding.weight", "output.weight"] {
        file.reshape(name, &[1, 1], 0.25);
    }
    file.reshape("mlp.layers.0.weight", &[1, 2], -0.5);
    file.reshape("mlp.layers.0.bias", &[1], 1.0);
    file.reshape("output.bias", &[1], -1.0);
    let model = read(&file.bytes()).unwrap();
    assert_eq!((model.kind(), model.num_users(), model.num_items()), (Kind::Mlp, 1, 1));
    assert_eq!(model.into_parts().mlp.unwrap().layers.len(), 1);
}

/// Reads a few bytes per call, and is interrupted or sleeps now and then.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        match self.1 % 50 {
            20 => return Err(ErrorKind::Interrupted.into()),
            40 => std::thread::sleep(Duration::from_millis(30)),
            _ => {}
        }
        let len = buffer.len().min(1 + self.1 % 7);
        self.0.read(&mut buffer[..len])
    }
}

#[test]
fn short_and_interrupted_reads_work_and_run_the_interrupt_check() {
    let bytes = neumf().bytes();
    let mut checks = 0;
    let mut check = || {
        checks += 1;
        Ok(())
    };
    assert_neumf(read_model(&mut Slow(&bytes, 0), bytes.len() as u64, &mut check).unwrap());
    // At least one check after each interruption.
    let calls = bytes.len() / 4;
    assert!(checks >= calls / 50, "{checks} checks in some {calls} reads");

    let stopped = read_model(&mut Slow(&bytes, 0), bytes.len() as u64, &mut || Err(Error::Interrupted));
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let truncated = read_model(&mut &bytes[..bytes.len() - 1], bytes.len() as u64, &mut || Ok(()));
    assert!(refusal(truncated).contains("the file ends early"));
}

/// Sleeps after a header was read, so that the interrupt check is due when its text is parsed.
struct Sleepy<'a>(&'a [u8]);

impl Read for Sleepy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        if read > 8 {
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(read)
    }
}

#[test]
fn parsing_a_header_runs_the_interrupt_check() {
    let list = ["1,".repeat(5000), "1".to_owned()].concat();
    let nested = ["{\"a\":[".repeat(60), "1,".repeat(5000), "1".to_owned(), "]}".repeat(60)].concat();
    let keys = (0..5000).map(|n| format!("\"{n}\":\"\",")).collect::<String>();
    for header in [
        format!("{{\"x\":[{list}]}}"),
        format!("{{\"x\":[{nested}]}}"),
        format!("{{\"x\":{{\"shape\":[{list}]}}}}"),
        format!("{{\"__metadata__\":{{{keys}\"\":\"\"}}}}"),
    ] {
        let bytes = join(header.as_bytes(), b"");
        let stopped = read_model(&mut Sleepy(&bytes), bytes.len() as u64, &mut || Err(Error::Interrupted));
        assert!(matches!(stopped, Err(Error::Interrupted)), "{:?}", stopped.map(drop));
        assert!(!refusal(read(&bytes)).contains("not valid JSON"));
    }
}

#[test]
fn large_tables_are_chunked_and_reading_them_runs_the_interrupt_check() {
    let rows = 5_000_000;
    let infos = [("output.bias", vec![1]), ("gmf.item_embedding.weight", vec![rows, 1]), ("output.weight", vec![1, 1])];
    let mut file = gmf();
    file.reshape("gmf.user_embedding.weight", &[1, 1], 1.0);
    for (name, shape) in &infos {
        let count: usize = shape.iter().product();
        file.put_f32(name, shape, &(0..count).map(|n| n as f32).collect::<Vec<_>>());
    }
    let bytes = file.bytes();
    let mut checks = 0;
    let mut check = || {
        checks += 1;
        Ok(())
    };
    let model = read_model(&mut &bytes[..], bytes.len() as u64, &mut check).unwrap();
    assert!(checks >= bytes.len() / (8 << 20), "{checks} checks in {} bytes", bytes.len());

    let items = model.into_parts().gmf.unwrap().items;
    assert_eq!((items.max_abs(), items.row(rows - 1)), (4_999_999.0, &[4_999_999.0][..]));
    let full = Table::rows_per_chunk(1);
    assert_eq!((full % 16, full * 4), (0, 8 << 20));
    let chunks: Vec<Vec<f32>> = items.into_chunks().collect();
    assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [full, full, rows - 2 * full]);
    assert!(chunks.iter().flatten().enumerate().all(|(row, &value)| value == row as f32));
}

#[test]
fn arrays_in_memory_are_read_in_order_and_once() {
    let mut file = neumf();
    file.tensors.rotate_left(4);
    let infos: Vec<_> =
        file.tensors.iter().map(|t| TensorInfo { name: t.name.clone(), shape: t.shape.clone() }).collect();
    let mut filled = Vec::new();
    let mut fill = |index: usize, first: usize, out: &mut [f32]| {
        filled.extend((first..first + out.len()).map(|element| (index, element)));
        out.copy_from_slice(&values(first + out.len())[first..]);
        Ok(())
    };
    assert_neumf(Model::assemble(None, Default::default(), &infos, &mut fill).unwrap());
    let sizes = infos.iter().map(|info| info.shape.iter().product::<usize>());
    let expected: Vec<_> = sizes.enumerate().flat_map(|(index, size)| (0..size).map(move |n| (index, n))).collect();
    assert_eq!(filled, expected);

    let untouched = &mut |_: usize, _: usize, _: &mut [f32]| panic!("names and shapes are checked first");
    let mut assemble = |kind, infos: &[TensorInfo]| Model::assemble(kind, Default::default(), infos, untouched);
    assert!(refusal(assemble(Some(Kind::Mlp), &infos)).contains("does not belong to a model of kind mlp"));
    assert!(refusal(assemble(None, &[])).contains("no tensors of a GMF or MLP block"));
    assert!(refusal(assemble(None, &[&infos[..], &infos[..1]].concat())).contains("duplicate tensor"));
    let huge = |rows| [TensorInfo { name: infos[6].name.clone(), shape: vec![rows, 2] }];
    let with_huge = |rows| [&infos[..6], &huge(rows)[..], &infos[7..]].concat();
    assert!(refusal(assemble(None, &with_huge(1 << 31))).contains("2147483648 rows, the limit is 2147483647"));
    assert!(refusal(assemble(None, &with_huge(usize::MAX))).contains("is too large"));
}

#[test]
fn new_users_are_checked_against_the_overflow_bound() {
    let model = read(&neumf().bytes()).unwrap();
    let bound = model.overflow_bound();
    bound.check_users(neuralcf::format::LargestElements { gmf: 2.0, mlp: 2.0 }).unwrap();
    bound.check_users(neuralcf::format::LargestElements { gmf: 1e30, mlp: 1e30 }).unwrap();
    for (gmf, mlp, tensor) in
        [(3e38, 0.0, "output.weight"), (0.0, 3e38, "mlp.layers.0.weight"), (f32::NAN, 0.0, "output")]
    {
        match bound.check_users(neuralcf::format::LargestElements { gmf, mlp }) {
            Err(Error::Argument(text)) => assert!(text.starts_with(tensor), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_reference_weights_open() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ncf-weights");
    if !folder.is_dir() {
        println!("skipped: no reference weights at {}", folder.display());
        return;
    }
    for (name, kind) in [("gmf8", Kind::Gmf), ("mlp8", Kind::Mlp), ("neumf8_init", Kind::NeuMf)] {
        let opened = open(&folder.join(format!("{name}.safetensors"))).unwrap();
        let model = opened.model;
        assert_eq!((model.kind(), model.num_users(), model.num_items()), (kind, 6040, 3706));
        assert_eq!(opened.digest.len(), 64);
    }
}
