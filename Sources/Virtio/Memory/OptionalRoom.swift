// SPDX-License-Identifier: Apache-2.0

/// A number below 2^40 that leaves room for nil.
///
/// An optional of a structure with one of these in it is no larger than the structure: four words
/// come back in registers, where four words and a flag would go through memory. Only a pointer
/// gives that to eight bytes, so a pointer it is, which never points anywhere.
@safe struct OptionalRoom: BitwiseCopyable, @unchecked Sendable {
    // SAFETY: (Sendable, unchecked) a number; nothing is ever reached through it.
    private let bits: UnsafeRawPointer

    private static var mark: UInt { 1 << 40 }

    @inline(__always)
    init(_ value: UInt64) {
        assert(value < Self.mark, "the number fits below the mark")
        // SAFETY: never read through; the mark makes it different from the null pointer.
        unsafe bits = UnsafeRawPointer(bitPattern: UInt(value) | Self.mark).unsafelyUnwrapped
    }

    @inline(__always)
    var value: UInt64 { unsafe UInt64(UInt(bitPattern: bits) & ~Self.mark) }
}
