// SPDX-License-Identifier: Apache-2.0

/// SplitMix64: random numbers that a seed brings back.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    /// What the generator started with; a failing test says it.
    public let seed: UInt64
    private var state: UInt64

    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// A number below `bound`.
    public mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// True one time in `count`.
    public mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }
}
