//! From the options that C passes to those of a [`Zswap`](zsalloc::Zswap) and its areas.

use super::types::{
    ZSWAP_AREA_NO_WRITEBACK, ZSWAP_AREA_REFUSE_INCOMPRESSIBLE, ZSWAP_CODEC_LZ4, ZSWAP_CODEC_RAW, ZSWAP_CODEC_ZSTD,
    zswap_area_options, zswap_options,
};
use crate::options::{self, RESERVED, convert as convert_pool};
use crate::sized::Received;
use std::ffi::CStr;
use zsalloc::{AreaOptions, Codec, Error, Result, ZswapOptions};

/// The codec that a number and a level mean. Which levels there are is for zswap to say.
pub fn codec(codec: u32, level: i32) -> Result<Codec> {
    const UNKNOWN: Error = Error::Invalid(&"there is no such codec");
    const LEVEL: Error = Error::Invalid(&"only ZSWAP_CODEC_ZSTD has levels: set the level to 0");
    match (codec, level) {
        (ZSWAP_CODEC_LZ4, 0) => Ok(Codec::Lz4),
        (ZSWAP_CODEC_ZSTD, level) => Ok(Codec::Zstd(level)),
        (ZSWAP_CODEC_RAW, 0) => Ok(Codec::Raw),
        (ZSWAP_CODEC_LZ4 | ZSWAP_CODEC_RAW, _) => Err(LEVEL),
        _ => Err(UNKNOWN),
    }
}

/// The name and the options, if they agree with each other.
///
/// # Safety
/// Name and pool options are NULL or as the header says, and the memory that they supply is the zswap's alone.
pub unsafe fn convert(received: &Received<zswap_options>) -> Result<(&str, ZswapOptions)> {
    // SAFETY: the caller vouches for the pool's options.
    let converted = unsafe { convert_unnamed(received) }?;
    let name = received.all()?.name;
    // SAFETY: the caller vouches for the name.
    let name = if name.is_null() { c"zswap" } else { unsafe { CStr::from_ptr(name) } };
    Ok((options::name(name)?, converted))
}

/// The options without the name, whatever that is.
///
/// # Safety
/// As for [`convert`], but for the name.
pub unsafe fn convert_unnamed(received: &Received<zswap_options>) -> Result<ZswapOptions> {
    const ACCEPT: Error = Error::Invalid(&"accept_percent is more than 100");
    const HEADROOM: Error = Error::Invalid(&"headroom_percent is more than 255");
    let options = received.all()?;
    if options.reserved != [0; 4] {
        return Err(RESERVED);
    }
    // SAFETY: the caller vouches for the pool's options.
    let pool = unsafe { Received::read(options.pool).and_then(|pool| convert_pool(&pool)) }?;
    Ok(ZswapOptions {
        max_bytes: options.max_bytes,
        accept_percent: options.accept_percent.try_into().map_err(|_| ACCEPT)?,
        headroom_percent: options.headroom_percent.try_into().map_err(|_| HEADROOM)?,
        codec: codec(options.codec, options.level)?,
        contexts: options.contexts as usize,
        max_claims: options.max_claims as usize,
        pool,
    })
}

/// The options of an area, if they are right.
pub fn convert_area(received: &Received<zswap_area_options>) -> Result<AreaOptions> {
    const UNKNOWN: Error = Error::Invalid(&"the area's options have a flag that does not exist");
    let options = received.all()?;
    let has = |flag: u32| options.flags & flag != 0;
    if options.reserved != [0; 9] {
        return Err(RESERVED);
    }
    if has(!(ZSWAP_AREA_REFUSE_INCOMPRESSIBLE | ZSWAP_AREA_NO_WRITEBACK)) {
        return Err(UNKNOWN);
    }
    Ok(AreaOptions {
        max_bytes: options.max_bytes,
        refuse_incompressible: has(ZSWAP_AREA_REFUSE_INCOMPRESSIBLE),
        no_writeback: has(ZSWAP_AREA_NO_WRITEBACK),
        context: options.context.expose_provenance(),
    })
}
