//! Options of the key-value workloads: kv, whose flags say what it does, and the mixes A to F of YCSB.

use super::args::{PatternArg, RecencyArg, RunArgs, TestArg, WorkloadArg};
use super::options::{Settings, mix_weights, usage};
use crate::cli::error::CliError;
use crate::load::{Dialect, KeyPattern, KvKind, KvOptions, Recency};

/// Longest scan of ycsb-e, as YCSB has it.
const SCAN_KEYS_MAX: u64 = 100;

/// What a mix of YCSB's core workloads does.
struct Mix {
    write_share: f64,
    recency: Recency,
    is_growing: bool,
    kind: KvKind,
}

fn mix_of(workload: WorkloadArg) -> Option<Mix> {
    let updates =
        |write_share| Mix { write_share, recency: Recency::Uniform, is_growing: false, kind: KvKind::Plain };
    let inserts = |recency, kind| Mix { write_share: 0.05, recency, is_growing: true, kind };
    Some(match workload {
        WorkloadArg::YcsbA => updates(0.5),
        WorkloadArg::YcsbB => updates(0.05),
        WorkloadArg::YcsbC => updates(0.0),
        WorkloadArg::YcsbD => inserts(Recency::Latest, KvKind::Plain),
        WorkloadArg::YcsbE => inserts(Recency::Uniform, KvKind::Scans(SCAN_KEYS_MAX)),
        WorkloadArg::YcsbF => Mix { kind: KvKind::ReadModifyWrite, ..updates(0.5) },
        WorkloadArg::Kv | WorkloadArg::TsbsCpu | WorkloadArg::TsbsDevops | WorkloadArg::Mixed => return None,
    })
}

/// The options of kv and of YCSB's mixes.
pub(super) fn kv_options(args: &RunArgs, settings: &Settings) -> Result<KvOptions, CliError> {
    let weights = &args.workload;
    let mix = match mix_of(settings.workload) {
        Some(mix) => {
            refuse_what_a_mix_fixes(args, settings)?;
            mix
        }
        None => Mix {
            write_share: write_share(args)?,
            recency: match weights.read_recency {
                Some(RecencyArg::Latest) => Recency::Latest,
                Some(RecencyArg::Uniform) | None => Recency::Uniform,
            },
            is_growing: false,
            kind: KvKind::Plain,
        },
    };
    let default = if mix_of(settings.workload).is_some() { PatternArg::Z } else { PatternArg::R };
    let pattern = match weights.key_pattern.unwrap_or(default) {
        PatternArg::R => KeyPattern::Random,
        PatternArg::S => KeyPattern::Sequential,
        PatternArg::P => KeyPattern::Parallel(args.load.clients),
        PatternArg::G => KeyPattern::Gaussian,
        PatternArg::H => KeyPattern::HotTenth(weights.hot_requests),
        PatternArg::Z if weights.zipf > 0.0 && weights.zipf.is_finite() => KeyPattern::Zipf(weights.zipf),
        PatternArg::Z => return Err(usage("zipf", "the exponent is positive")),
    };
    let Mix { write_share, recency, is_growing, kind } = mix;
    Ok(KvOptions {
        dialect: settings.dialect,
        keys: weights.keys,
        pattern,
        write_share,
        recency,
        is_growing,
        kind,
        values: settings.values,
        start: weights.start,
        seed: args.load.seed,
    })
}

fn refuse_what_a_mix_fixes(args: &RunArgs, settings: &Settings) -> Result<(), CliError> {
    let weights = &args.workload;
    for (flag, is_given) in [
        ("ratio", weights.ratio.is_some()),
        ("mix", !weights.mix.is_empty()),
        ("test", weights.test.is_some()),
        ("read-recency", weights.read_recency.is_some()),
    ] {
        if is_given {
            return Err(usage(flag, "the mixes of YCSB fix it; use --workload kv"));
        }
    }
    if settings.workload == WorkloadArg::YcsbE && settings.dialect != Dialect::Native {
        return Err(usage("workload", "ycsb-e scans neighbouring keys; add --protocol native"));
    }
    if settings.workload == WorkloadArg::YcsbF && args.load.pipeline.is_some_and(|pipeline| pipeline > 1) {
        let advice =
            "the writes of ycsb-f wait for their reads: one operation per connection; more --clients";
        return Err(usage("pipeline", advice));
    }
    Ok(())
}

fn write_share(args: &RunArgs) -> Result<f64, CliError> {
    let weights = &args.workload;
    Ok(match (&weights.ratio, weights.test) {
        (Some(ratio), _) => {
            let pair = ratio
                .split_once(':')
                .and_then(|(w, r)| Some((w.parse::<f64>().ok()?, r.parse::<f64>().ok()?)));
            let (writes, reads) = pair
                .filter(|(w, r)| *w >= 0.0 && *r >= 0.0 && (w + r).is_finite() && w + r > 0.0)
                .ok_or_else(|| usage("ratio", format!("'{ratio}' is not like 1:9")))?;
            writes / (writes + reads)
        }
        (None, Some(TestArg::Put)) => 1.0,
        (None, Some(TestArg::Get)) => 0.0,
        (None, None) => {
            let mix = mix_weights(args, &["write", "read"])?.unwrap_or_else(|| vec![1, 1]);
            mix[0] as f64 / (mix[0] + mix[1]) as f64
        }
    })
}
