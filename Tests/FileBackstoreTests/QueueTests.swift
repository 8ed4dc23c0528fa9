// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Glibc
import Kernel
import LinuxIO
import Testing

@Suite("A file store queues")
struct QueueTests {
    @Test("hands the requests of a turn over in one system call, whatever store they are for")
    func batch() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let first = try bench.open(try folder.file("first", byteCount: 1 << 18))
        let second = try bench.open(try folder.file("second", byteCount: 1 << 18))
        for index in 0..<32 {
            bench.submit(
                .read, at: index * 4096, TestMemory(pieces: [4096]),
                to: index.isMultiple(of: 2) ? first : second)
        }
        try bench.finish()
        #expect(bench.kernel.submitCounts == [32])
        #expect(bench.outcomes.values.allSatisfy { $0 == .done })
    }

    @Test("ends every request, once, on a loop that polls for completions")
    func polling() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        bench.loop.pollLimit = .milliseconds(1)
        let store = try bench.open(try folder.file(byteCount: 1 << 18))
        let memories = (0..<64).map { _ in TestMemory(pieces: [4096]) }
        for round in 0..<4 {
            for (index, memory) in memories[16 * round..<16 * (round + 1)].enumerated() {
                bench.submit(.read, at: (16 * round + index) * 4096, memory, to: store)
            }
            try bench.turn { bench.outcomes.count == 16 * (round + 1) }
        }
        for (index, memory) in memories.enumerated() {
            #expect(memory.firstDifference { TestFile.pattern(index * 4096 + $0) } == nil)
        }
    }

    @Test("lets requests wait that are more than the context has room for")
    func manyRequests() throws {
        let folder = try TestFolder()
        let bench = try Bench(requestCount: 4)
        let store = try bench.open(try folder.file(byteCount: 1 << 18))
        let memories = (0..<60).map { _ in TestMemory(pieces: [4096]) }
        for (index, memory) in memories.enumerated() {
            bench.submit(.read, at: index * 4096, memory, to: store)
        }
        try bench.finish()
        #expect(bench.kernel.submitCounts.allSatisfy { $0 <= 4 })
        for (index, memory) in memories.enumerated() {
            #expect(memory.firstDifference { TestFile.pattern(index * 4096 + $0) } == nil)
        }
    }

    @Test("moves more through bounce buffers than they hold, at once and together")
    func bounce() throws {
        let folder = try TestFolder()
        let file = try folder.file(byteCount: 20 << 20, byteAt: nil)
        let bench = try Bench()
        let store = try bench.open(file)
        // Twenty writes of a megabyte and a block each share sixteen buffers of a quarter.
        let memories = (0..<19).map {
            TestMemory(pieces: [1 << 20, 100, 412], shift: 1, filledWith: UInt8($0 + 1))
        }
        for (index, memory) in memories.enumerated() {
            bench.submit(
                .write(isDurable: false), at: index * ((1 << 20) + 512), memory, to: store)
        }
        try bench.finish()
        #expect(bench.outcomes.values.allSatisfy { $0 == .done })
        for index in 0..<19 {
            let start = index * ((1 << 20) + 512)
            let bytes = try file.bytes(start..<start + (1 << 20) + 512)
            #expect(bytes.allSatisfy { $0 == UInt8(index + 1) })
        }
        let back = TestMemory(pieces: Array(repeating: 1 << 20, count: 3), shift: 3)
        #expect(try bench.perform(.read, at: 0, back, on: store) == .done)
        #expect(back.firstDifference { UInt8($0 / ((1 << 20) + 512) + 1) } == nil)
    }

    @Test("does not copy what the kernel takes as it is")
    func zeroCopy() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 1 << 18))
        let memory = TestMemory(pieces: [4096])
        #expect(try bench.perform(.read, memory, on: store) == .done)
        let address = unsafe Int(bitPattern: memory.pieces.base.pointee.iov_base)
        #expect(bench.kernel.addresses == [address])
    }

    @Test("takes more pieces than one system call does", arguments: Medium.allCases)
    func manyPieces(_ medium: Medium) throws {
        let folder = try medium.folder()
        let file = try folder.file(byteCount: 4 << 20, byteAt: nil)
        let bench = try Bench()
        let store = try bench.open(file)
        let memory = TestMemory(pieces: Array(repeating: 512, count: 2500))
        let bytes = (0..<memory.byteCount).map(TestFile.pattern)
        memory.bytes = bytes
        #expect(try bench.perform(.write(isDurable: false), at: 512, memory, on: store) == .done)
        let written = try file.bytes(512..<512 + memory.byteCount)
        #expect(written.elementsEqual(bytes))
        memory.bytes = [UInt8](repeating: 0, count: memory.byteCount)
        #expect(try bench.perform(.read, at: 512, memory, on: store) == .done)
        #expect(memory.firstDifference(from: TestFile.pattern) == nil)
    }

    @Test("refuses what lies outside the disk, and does nothing for no bytes")
    func ranges() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        let store = try bench.open(try folder.file(byteCount: 65536))
        let memory = TestMemory(pieces: [4096])
        #expect(try bench.perform(.read, at: 65536 - 3584, memory, on: store) == .outOfRange)
        #expect(try bench.perform(.read, at: Int.max - 511, memory, on: store) == .outOfRange)
        #expect(try bench.perform(.read, at: 65536, TestMemory(pieces: []), on: store) == .done)
        #expect(try bench.perform(.discard, at: 0, byteCount: 0, on: store) == .done)
        #expect(try bench.perform(.discard, at: 512, byteCount: 65536, on: store) == .outOfRange)
        #expect(bench.kernel.submitCounts.isEmpty)
    }

    @Test(
        "ends what is under way when it is closed, and takes nothing more",
        arguments: Medium.allCases)
    func closing(_ medium: Medium) throws {
        let folder = try medium.folder()
        let file = try folder.file(byteCount: 1 << 18)
        let bench = try Bench(requestCount: 4)
        weak var gone: FileStore?
        var late: UInt64 = 0
        do {
            let store = try bench.open(file)
            gone = store
            for index in 0..<16 {
                bench.submit(.read, at: index * 4096, TestMemory(pieces: [4096]), to: store)
            }
            store.close()
            late = bench.submit(.read, at: 0, TestMemory(pieces: [4096]), to: store)
        }
        #expect(gone != nil)
        try bench.finish()
        #expect(bench.outcomes[late] == .gone)
        #expect(bench.outcomes.values.count { $0 == .done } == 16)
        #expect(gone == nil)
        // The lock went with it.
        _ = try bench.open(file)
    }

    @Test("answers a request that comes after its end, though nobody keeps it")
    func afterTheEnd() throws {
        let folder = try TestFolder()
        let bench = try Bench()
        weak var gone: FileStore?
        do {
            let store = try bench.open(try folder.file(byteCount: 65536))
            gone = store
            store.close()
            bench.submit(.flush, to: store)
            bench.submit(.read, TestMemory(pieces: [4096]), to: store)
        }
        #expect(gone != nil)
        try bench.finish()
        #expect(bench.outcomes == [1: .gone, 2: .gone])
        #expect(gone == nil)
    }

    @Test("forgets what has waited, though something always waits")
    func longQueue() throws {
        let folder = try TestFolder(inMemory: true)
        let bench = try Bench(requestCount: 1)
        let store = try bench.open(try folder.file(byteCount: 65536))
        var left = 2000
        bench.onEnd = { [unowned bench] _ in
            guard left > 0 else { return }
            left -= 1
            bench.submit(.read, at: 65536, TestMemory(pieces: []), to: store)
        }
        for _ in 0..<3 { bench.submit(.read, at: 65536, TestMemory(pieces: []), to: store) }
        try bench.finish()
        bench.onEnd = { _ in }
        #expect(bench.order == Array(1...2003))
    }

    @Test("leaves other disks going while one hangs, whatever it has been asked")
    func hungDisk() throws {
        let folder = try TestFolder()
        let bench = try Bench(requestCount: 32)
        let hung = try bench.open(try folder.file("hung", byteCount: 1 << 18))
        let other = try bench.open(try folder.file("other", byteCount: 1 << 18))
        _ = try bench.perform(.read, TestMemory(pieces: [512]), on: hung)
        bench.kernel.hungDescriptors = Set(bench.kernel.descriptors)
        var stuck: Set<UInt64> = []
        // Half of them through bounce buffers.
        for index in 0..<200 {
            let memory = TestMemory(pieces: [512], shift: index % 2)
            stuck.insert(bench.submit(.read, at: index * 512, memory, to: hung))
        }
        for round in 0..<10 {
            let memories = (0..<20).map { TestMemory(pieces: [4096], shift: $0 % 2) }
            let tokens = memories.map { bench.submit(.read, at: round * 4096, $0, to: other) }
            try bench.turn(until: { tokens.allSatisfy { bench.outcomes[$0] == .done } })
            for memory in memories {
                #expect(memory.firstDifference { TestFile.pattern(round * 4096 + $0) } == nil)
            }
        }
        #expect(stuck.allSatisfy { bench.outcomes[$0] == nil })
        bench.kernel.letGo()
        try bench.finish()
        #expect(bench.order.filter(stuck.contains).count == 200)
        #expect(bench.outcomes.values.allSatisfy { $0 == .done })
    }

    @Test("takes requests from an owner that is being called")
    func reentrant() throws {
        let folder = try TestFolder()
        let bench = try Bench(requestCount: 2)
        let store = try bench.open(try folder.file(byteCount: 1 << 18))
        var left = 50
        bench.onEnd = { [unowned bench] _ in
            guard left > 0 else { return }
            left -= 1
            bench.submit(.read, at: left * 4096, TestMemory(pieces: [4096]), to: store)
        }
        for _ in 0..<4 { bench.submit(.read, TestMemory(pieces: [4096]), to: store) }
        try bench.finish()
        #expect(bench.outcomes.count == 54)
        bench.onEnd = { _ in }
    }

    @Test("lets its loop and its context go", arguments: Medium.allCases)
    func lifetime(_ medium: Medium) throws {
        weak var loop: EventLoop?
        weak var context: AIOContext?
        do {
            let folder = try medium.folder()
            let bench = try Bench()
            let store = try bench.open(try folder.file(byteCount: 65536))
            #expect(try bench.perform(.read, TestMemory(pieces: [4096]), on: store) == .done)
            store.close()
            loop = bench.loop
            context = bench.context
        }
        #expect(loop == nil)
        #expect(context == nil)
    }

    @Test("leaves a worker thread to every store although another one's medium hangs")
    func hangs() throws {
        let folder = try TestFolder()
        let bench = try Bench(setUpErrnos: [EAGAIN, EAGAIN, EAGAIN, EAGAIN, EAGAIN])
        let hung = try bench.open(try folder.file("hung", byteCount: 1 << 18))
        let others = try (0..<3).map {
            try bench.open(try folder.file("\($0)", byteCount: 1 << 18))
        }
        defer { bench.calls.release() }
        for number in 0..<2 { bench.calls.script(.synchronize, number: number, .hang) }
        for _ in 0..<8 { bench.submit(.flush, to: hung) }
        while bench.calls.count(.synchronize) < 2 { sched_yield() }
        let reads = others.map { bench.submit(.read, TestMemory(pieces: [4096]), to: $0) }
        try bench.turn { reads.allSatisfy { bench.outcomes[$0] == .done } }
        #expect(bench.outcomes.count == 3)
        bench.calls.release()
        try bench.finish()
    }
}
