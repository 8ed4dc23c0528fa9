// SPDX-License-Identifier: Apache-2.0

import Driver
import Sessions
import Testing

@Suite("A session with a malicious front-end")
struct RandomSessionTests {
    /// Long runs are `Tests/Fuzz/run session`.
    @Test(
        "traps on nothing, and leaves nothing behind", arguments: 0..<8 as Range<UInt64>,
        [0, 2])
    func randomPrograms(_ seed: UInt64, _ queueServerCount: Int) throws {
        let fuzzer = try SessionFuzzer(
            name: "\(seed)-\(queueServerCount)", queueServerCount: queueServerCount)
        var generator = SeededGenerator(seed: seed)
        for number in 0..<60 {
            let program = (0..<Int.random(in: 1...600, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            #expect(fuzzer.run(program) == nil, "seed \(seed), program \(number)")
        }
    }
}
