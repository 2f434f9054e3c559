"""Tag numbers of TIFF, Exif and DNG, under their names in the standards."""

from __future__ import annotations

from enum import IntEnum


class Tag(IntEnum):
    """TIFF 6.0, Exif 2.3 (CIPA DC-008) and DNG 1.4 to 1.7."""

    NewSubFileType = 254
    ImageWidth = 256
    ImageLength = 257
    BitsPerSample = 258
    Compression = 259
    PhotometricInterpretation = 262
    ImageDescription = 270
    Make = 271
    Model = 272
    StripOffsets = 273
    Orientation = 274
    SamplesPerPixel = 277
    RowsPerStrip = 278
    StripByteCounts = 279
    PlanarConfiguration = 284
    Software = 305
    DateTime = 306
    TileWidth = 322
    TileLength = 323
    TileOffsets = 324
    TileByteCounts = 325
    SubIFDs = 330
    XMP = 700
    CFARepeatPatternDim = 33421
    CFAPattern = 33422
    ExposureTime = 33434
    FNumber = 33437
    ExifIFD = 34665
    ISOSpeedRatings = 34855
    SensitivityType = 34864
    RecommendedExposureIndex = 34866
    ExifVersion = 36864
    DateTimeOriginal = 36867
    FocalLength = 37386
    LensModel = 42036
    DNGVersion = 50706
    DNGBackwardVersion = 50707
    UniqueCameraModel = 50708
    CFAPlaneColor = 50710
    CFALayout = 50711
    BlackLevelRepeatDim = 50713
    BlackLevel = 50714
    WhiteLevel = 50717
    DefaultCropOrigin = 50719
    DefaultCropSize = 50720
    ColorMatrix1 = 50721
    AsShotNeutral = 50728
    AsShotWhiteXY = 50729
    CalibrationIlluminant1 = 50778
    OriginalRawFileName = 50827
    ActiveArea = 50829
    NoiseReductionApplied = 50935
    NoiseProfile = 51041


# PhotometricInterpretation
RGB, CFA, LINEAR_RAW = 2, 32803, 34892
# Compression
UNCOMPRESSED, LOSSLESS_JPEG = 1, 7

# What describes colour or camera and may come from the source; everything else says how this file is built or what
# its pixels are, and only the writer knows that.
REPLACEABLE_BY_SOURCE = frozenset(
    {Tag.UniqueCameraModel, Tag.ColorMatrix1, Tag.AsShotNeutral, Tag.AsShotWhiteXY, Tag.CalibrationIlluminant1}
)
