//! Converts the options of C to those of a [`Zswap`](zsalloc::Zswap) and its areas.

use super::tier_types::zswap_tier_options;
use super::types::{
    ZSWAP_AREA_KEEP_OLD, ZSWAP_AREA_NO_WRITEBACK, ZSWAP_AREA_REFUSE_INCOMPRESSIBLE, ZSWAP_CODEC_LZ4, ZSWAP_CODEC_RAW,
    ZSWAP_CODEC_ZSTD, zswap_area_options, zswap_options, zswap_tuning,
};
use crate::options::{self, RESERVED, convert as convert_pool};
use crate::sized::{Received, unless_zero};
use crate::wrong::{Wrong, wrong};
use std::ffi::CStr;
use zsalloc::plumbing::{sentence, text};
use zsalloc::{AreaOptions, Codec, Error, Result, TierOptions, ZswapOptions, ZswapTuning};

/// Returns the codec for a number and a level. Zswap itself checks which levels exist.
pub fn codec(codec: u32, level: i32) -> Result<Codec> {
    const UNKNOWN: Error = Error::Invalid(sentence(&"the codec is not one of ZSWAP_CODEC_*"));
    const LEVEL: Error = Error::Invalid(sentence(&"only ZSWAP_CODEC_ZSTD has levels: set the level to 0"));
    match (codec, level) {
        (ZSWAP_CODEC_LZ4, 0) => Ok(Codec::Lz4),
        (ZSWAP_CODEC_ZSTD, level) => Ok(Codec::Zstd(level)),
        (ZSWAP_CODEC_RAW, 0) => Ok(Codec::Raw),
        (ZSWAP_CODEC_LZ4 | ZSWAP_CODEC_RAW, _) => Err(LEVEL),
        _ => Err(UNKNOWN),
    }
}

/// Returns the name and the options, if the options do not contradict each other.
///
/// # Safety
/// The name and the tuning are NULL or what the header says, and memory that the pool's options
/// supply is for this zswap alone.
pub unsafe fn convert(received: &Received<zswap_options>) -> Result<(&str, ZswapOptions)> {
    let options = received.all()?;
    if options.reserved != [0; 4] {
        return Err(RESERVED);
    }
    let converted = ZswapOptions {
        max_bytes: unless_zero(options.max_bytes),
        codec: codec(options.codec, options.level)?,
        // SAFETY: the caller promises the same.
        tuning: unsafe { convert_tuning(options.tuning, wrong!("options->tuning")) }?,
    };
    // SAFETY: the caller promises that a name that is not NULL is a C string.
    let name = if options.name.is_null() { c"zswap" } else { unsafe { CStr::from_ptr(options.name) } };
    Ok((options::name(name)?, converted))
}

/// Converts the tuning of a zswap, of its own or in a pager. `what` names it in errors.
///
/// # Safety
/// The tuning is NULL or what the header says, and memory that the pool's options supply is for this
/// zswap alone.
pub unsafe fn convert_tuning(tuning: *const zswap_tuning, what: &'static Wrong) -> Result<ZswapTuning> {
    const ACCEPT: Error = Error::Invalid(sentence(&"accept_percent is more than 100"));
    const HEADROOM: Error = Error::Invalid(sentence(&"headroom_percent is more than 255"));
    // SAFETY: the caller promises that a tuning that is not NULL is as the header says.
    let received = unsafe { Received::read(tuning, what) }?;
    let tuning = received.all()?;
    if tuning.reserved != [0; 4] {
        return Err(RESERVED);
    }
    // SAFETY: the caller promises that pool options that are not NULL are as the header says.
    let pool = unsafe { Received::read(tuning.pool, wrong!("tuning->pool")).and_then(|pool| convert_pool(&pool)) }?;
    Ok(ZswapTuning {
        accept_percent: unless_zero(tuning.accept_percent.try_into().map_err(|_| ACCEPT)?),
        headroom_percent: unless_zero(tuning.headroom_percent.try_into().map_err(|_| HEADROOM)?),
        contexts: unless_zero(tuning.contexts as usize),
        max_claims: unless_zero(tuning.max_claims as usize),
        pool,
    })
}

/// Converts the options of an area.
///
/// # Safety
/// The name is NULL or what the header says.
pub unsafe fn convert_area(received: &Received<zswap_area_options>) -> Result<AreaOptions> {
    const UNKNOWN: Error = Error::Invalid(sentence(&"the area's options set an unknown flag"));
    let passed = received.all()?;
    let has = |flag: u32| passed.flags & flag != 0;
    if passed.reserved != [0; 6] {
        return Err(RESERVED);
    }
    if has(!(ZSWAP_AREA_REFUSE_INCOMPRESSIBLE | ZSWAP_AREA_NO_WRITEBACK | ZSWAP_AREA_KEEP_OLD)) {
        return Err(UNKNOWN);
    }
    Ok(AreaOptions {
        // SAFETY: the caller promises it.
        name: text(unsafe { options::name_or_none(passed.name) }?)?,
        max_bytes: unless_zero(passed.max_bytes),
        refuse_incompressible: has(ZSWAP_AREA_REFUSE_INCOMPRESSIBLE),
        keep_old: has(ZSWAP_AREA_KEEP_OLD),
        tiers: passed.tiers.into(),
        no_writeback: has(ZSWAP_AREA_NO_WRITEBACK),
        context: passed.context.expose_provenance(),
    })
}

/// Converts the options of a tier of the program's own.
///
/// # Safety
/// The name is NULL or what the header says.
pub unsafe fn convert_tier(received: &Received<zswap_tier_options>) -> Result<TierOptions> {
    let passed = received.all()?;
    if passed.reserved != [0; 4] {
        return Err(RESERVED);
    }
    // SAFETY: the caller promises it.
    let name = text(unsafe { options::name_or_none(passed.name) }?)?;
    let default = TierOptions::default();
    Ok(TierOptions { name, max_bytes: unless_zero(passed.max_bytes).unwrap_or(default.max_bytes) })
}
