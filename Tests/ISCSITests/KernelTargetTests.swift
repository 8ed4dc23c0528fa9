// SPDX-License-Identifier: Apache-2.0

import Guests
import LinuxIO
import Targets
import Testing

@testable import ISCSIBackstore

@Suite("A session with LIO, the kernel's target", .serialized)
struct KernelTargetTests {
    /// Times that the connection breaks.
    private static let roundCount = max(20, Outage.roundCount)

    @Test("has it do nothing twice that must not be, wherever the connection breaks")
    func once() async throws {
        try await onOwnThread {
            let target = try KernelTarget(port: ListeningSockets.freePort(), mebibytes: 16)
            let context = try SessionContext(target.url)
            #expect(try context.bringUp(), "\(context.lines.all)")
            let (counts, keys) = (CompareAndWriteLoad(context), OnceLoad(context))
            func advance() {
                counts.advance()
                keys.advance()
            }
            for round in 1...Self.roundCount {
                let goal = (counts.changeCount + 2, keys.changeCount + 2)
                let goesOn = try context.turn {
                    advance()
                    return counts.changeCount >= goal.0 && keys.changeCount >= goal.1
                }
                try #require(goesOn, "\(counts.failures) \(keys.failures)")
                // The commands are on their way, at the target, or answered in part.
                for _ in 0..<round % 5 {
                    try context.loop.turn(waitingAtMost: .milliseconds(1))
                    advance()
                }
                context.breakConnection()
                let isBack = try context.turn {
                    advance()
                    return context.upCount == round + 1
                }
                try #require(isBack, "\(context.lines.all)")
            }
            counts.end()
            keys.end()
            try context.turn {
                advance()
                return counts.isIdle && keys.isIdle
            }
            #expect(counts.failures == [] && keys.failures == [])
            // Else the test shows nothing.
            #expect(counts.lostAnswerCount > 0)
            #expect(counts.changeCount > 0 && keys.changeCount > 0)
            print(
                "\(Self.roundCount) breaks: \(counts.changeCount) COMPARE AND WRITE answered,",
                "\(counts.lostAnswerCount) done without an answer,",
                "\(counts.lostCommandCount) not done; \(keys.changeCount) PERSISTENT RESERVE OUT")
            try target.guest.powerOff()
        }
    }
}
