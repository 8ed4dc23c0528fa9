// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing

/// The driver and the device do at random what they may, and plain arrays say what must come of it.
@Suite("A ring agrees with plain arrays")
struct RingModelTests {
    @Test("at every small size, from every start near the wrap", arguments: SmallRing.all)
    func small(ring: SmallRing) throws {
        for (number, start) in ring.starts.enumerated() {
            for (choice, features) in featureChoices.enumerated() {
                var options = features
                options.size = ring.size
                options.start = start
                try run(ring.format, options, seed: UInt64(100 * number + choice), count: 500)
            }
        }
    }

    @Test(
        "over a million buffers of each format", arguments: RingFormat.allCases, 0..<8)
    func large(format: RingFormat, choice: Int) throws {
        var generator = SeededGenerator(seed: .random(in: 0 ... .max))
        let seed = generator.seed
        var options = featureChoices[choice]
        options.size = format == .split ? 1 << generator.below(9) : 1 + generator.below(300)
        options.start = UInt32(generator.below(65536))
        try run(format, options, seed: seed, count: 130_000)
    }

    private func run(
        _ format: RingFormat, _ options: RingOptions, seed: UInt64, count: Int
    ) throws {
        let model = try RingModel(format, options, seed: seed)
        try model.run(untilReaped: count)
        #expect(model.failure == nil, "\(format), \(options), seed \(seed)")
    }
}
