// SPDX-License-Identifier: Apache-2.0

/// The bytes of a test stream, computed alike by both ends from a seed, so that neither has to hold
/// the other's copy: word `i` (little-endian, eight bytes) is a hash of the seed and `i`.
///
/// A lost, repeated, swapped or foreign chunk differs from what its offset asks for.
struct StreamPattern: Sendable {
    let seed: UInt64

    /// The word at `index`, by the finaliser of SplitMix64.
    @inline(__always)
    func word(at index: UInt64) -> UInt64 {
        var mixed = seed &+ (index &+ 1) &* 0x9e37_79b9_7f4a_7c15
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// Fills the first `wordCount` words with the stream from word `start` on.
    func fill(_ words: inout [UInt64], wordCount: Int, from start: UInt64) {
        for offset in 0..<wordCount {
            words[offset] = word(at: start &+ UInt64(offset)).littleEndian
        }
    }

    /// The offset in `words` of the first of `wordCount` words that is not the stream's from `start`.
    func firstDifference(in words: [UInt64], wordCount: Int, from start: UInt64) -> Int? {
        (0..<wordCount).first { offset in
            UInt64(littleEndian: words[offset]) != word(at: start &+ UInt64(offset))
        }
    }
}

/// A running checksum (FNV-1a over little-endian words), to be compared by people and across logs.
struct StreamChecksum: Sendable {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func update(_ words: [UInt64], wordCount: Int) {
        var sum = value
        for offset in 0..<wordCount {
            sum = (sum ^ UInt64(littleEndian: words[offset])) &* 0x0000_0100_0000_01b3
        }
        value = sum
    }
}
