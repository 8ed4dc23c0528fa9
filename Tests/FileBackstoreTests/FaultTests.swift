// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Glibc
import Kernel
import LinuxIO
import Testing

@Suite("A file store copes with the kernel")
struct FaultTests {
    private let folder: TestFolder
    private let file: TestFile
    private let bench: Bench
    private let store: FileStore

    init() throws {
        folder = try TestFolder()
        file = try folder.file(byteCount: 128 << 10)
        bench = try Bench(clock: ManualClock())
        store = try bench.open(file)
    }

    private func read(_ byteCount: Int = 4096, at offset: Int = 0) throws -> BlockOutcome? {
        let memory = TestMemory(pieces: [byteCount / 2, byteCount / 2])
        let outcome = try bench.perform(.read, at: offset, memory, on: store)
        if outcome == .done {
            #expect(memory.firstDifference { TestFile.pattern(offset + $0) } == nil)
        }
        return outcome
    }

    private func write(
        _ byteCount: Int = 4096, at offset: Int = 0, isDurable: Bool = false
    ) throws -> BlockOutcome? {
        let memory = TestMemory(pieces: [byteCount / 2, byteCount / 2], filledWith: 0x5a)
        let outcome = try bench.perform(
            .write(isDurable: isDurable), at: offset, memory, on: store)
        if outcome == .done {
            let bytes = try file.bytes(offset..<offset + byteCount)
            #expect(bytes.allSatisfy { $0 == 0x5a })
        }
        return outcome
    }

    // MARK: io_setup

    @Test("asks for fewer requests while fs.aio-max-nr is used up")
    func setUpShortage() throws {
        let bench = try Bench(requestCount: 256, setUpErrnos: [EAGAIN, EAGAIN])
        #expect(bench.kernel.setUpCounts == [256, 128, 64])
        #expect(bench.context.kernelRequestCount == 64)
        let other = try folder.file("other", byteCount: 8192)
        let store = try bench.open(other)
        #expect(store.transfer == .direct)
    }

    @Test("uses workers when the host has no AIO requests left", arguments: [EAGAIN, ENOSYS])
    func setUpFails(_ code: Int32) throws {
        let bench = try Bench(setUpErrnos: [code, code, code])
        #expect(bench.context.kernelRequestCount == 0)
        let other = try folder.file("other", byteCount: 65536)
        let store = try bench.open(other)
        #expect(store.transfer == .directOnWorkers)
        for (pieces, shift) in [([4096], 0), ([512, 100, 412], 3)] {
            let memory = TestMemory(pieces: pieces, shift: shift)
            #expect(try bench.perform(.read, at: 512, memory, on: store) == .done)
            #expect(memory.firstDifference { TestFile.pattern(512 + $0) } == nil)
            #expect(
                try bench.perform(.write(isDurable: true), at: 512, memory, on: store) == .done)
        }
        #expect(try bench.perform(.flush, on: store) == .done)
        #expect(bench.calls.count(.synchronize) == 1)
        #expect(bench.kernel.submitCounts.isEmpty)
    }

    // MARK: io_submit

    @Test("tries again when the kernel has no room and nothing is under way")
    func submitBusy() throws {
        bench.kernel.submissions = [0: .refuse(EAGAIN), 1: .refuse(EAGAIN)]
        #expect(try read() == .done)
        #expect(bench.kernel.submitCounts.count == 3)
    }

    @Test("tries again when a request has ended, in order")
    func submitFull() throws {
        bench.kernel.submissions = [0: .takeAtMost(2), 1: .refuse(EAGAIN)]
        let memories = (0..<6).map { _ in TestMemory(pieces: [4096]) }
        for (index, memory) in memories.enumerated() {
            bench.submit(.read, at: index * 4096, memory, to: store)
        }
        try bench.finish()
        #expect(bench.kernel.submitCounts[..<2] == [6, 4])
        for (index, memory) in memories.enumerated() {
            #expect(memory.firstDifference { TestFile.pattern(index * 4096 + $0) } == nil)
        }
    }

    @Test("hands the rest over at once when the kernel takes a part of the batch")
    func submitPartial() throws {
        bench.kernel.submissions = [0: .takeAtMost(1), 1: .takeAtMost(3)]
        for index in 0..<8 {
            bench.submit(.read, at: index * 4096, TestMemory(pieces: [4096]), to: store)
        }
        try bench.loop.turn(waitingAtMost: .zero)
        #expect(bench.kernel.submitCounts == [8, 7, 4])
        try bench.finish()
    }

    @Test("is not stopped by a signal")
    func submitInterrupted() throws {
        bench.kernel.submissions = [0: .refuse(EINTR)]
        #expect(try read() == .done)
    }

    @Test("fails the one request that the kernel refuses and hands over the others")
    func submitRefuses() throws {
        bench.kernel.submissions = [0: .takeAtMost(1), 1: .refuse(EIO)]
        var tokens: [UInt64] = []
        for index in 0..<4 {
            tokens.append(
                bench.submit(.read, at: index * 4096, TestMemory(pieces: [4096]), to: store))
        }
        try bench.finish()
        #expect(bench.kernel.submitCounts == [4, 3, 2])
        #expect(
            tokens.map { bench.outcomes[$0] } == [
                .done, .mediumError(goodByteCount: 0), .done, .done,
            ])
    }

    @Test("does without RWF_NOWAIT where the file system does not have it")
    func noNowait() throws {
        bench.kernel.submissions = [0: .refuse(EOPNOTSUPP)]
        #expect(try write() == .done)
        #expect(try write() == .done)
        // RWF_NOWAIT is 8.
        #expect(bench.kernel.flags == [0, 0])
    }

    // MARK: Events

    @Test(
        "turns errors into what they mean for a disk",
        arguments: [
            (EIO, .mediumError(goodByteCount: 0)), (EREMOTEIO, .mediumError(goodByteCount: 0)),
            (ENOSPC, .noSpace), (EDQUOT, .noSpace), (EOPNOTSUPP, .unsupported),
            (ENODEV, .gone), (ENXIO, .gone), (ENOMEM, .busy),
            (EFAULT, .mediumError(goodByteCount: 0)),
        ] as [(Int32, BlockOutcome)])
    func eventFails(_ code: Int32, _ outcome: BlockOutcome) throws {
        bench.kernel.events = [0: .fail(code)]
        #expect(try read() == outcome)
        #expect(try read() == .done)
    }

    @Test("says how many bytes were good before the medium failed")
    func goodBytes() throws {
        bench.kernel.events = [0: .cutTo(1536), 1: .fail(EIO)]
        #expect(try read() == .mediumError(goodByteCount: 1536))
    }

    @Test("asks for the rest of a short read or write", arguments: [512, 1024, 2048, 3584])
    func eventShort(_ byteCount: Int) throws {
        bench.kernel.events = [0: .cutTo(byteCount)]
        #expect(try read() == .done)
        #expect(bench.kernel.submitCounts == [1, 1])
        bench.kernel.events = [2: .cutTo(byteCount), 3: .cutTo(512)]
        #expect(try write() == .done)
    }

    @Test("starts again at a block when a short transfer ends within one")
    func eventOdd() throws {
        bench.kernel.events = [0: .cutTo(1000), 1: .cutTo(513)]
        #expect(try read() == .done)
        #expect(bench.kernel.submitCounts == [1, 1, 1])
    }

    @Test("tries again what the kernel says is not to be done now")
    func eventBusy() throws {
        bench.kernel.events = [0: .fail(EAGAIN), 1: .fail(EAGAIN), 2: .fail(EINTR)]
        #expect(try read() == .done)
        #expect(bench.kernel.eventCount == 4)
    }

    @Test("says busy when not now lasts")
    func eventAlwaysBusy() throws {
        for event in 0..<1000 { bench.kernel.events[event] = .fail(EAGAIN) }
        #expect(try read() == .busy)
    }

    @Test("gives a write that would have to wait to a worker")
    func eventWouldWait() throws {
        bench.kernel.events = [0: .fail(EAGAIN)]
        #expect(try write(isDurable: true) == .done)
        #expect(bench.calls.count(.durableWrite) == 1)
        // RWF_DSYNC is 2, RWF_NOWAIT is 8.
        #expect(bench.kernel.flags == [10])
    }

    @Test("tries a flush again that is not to be done now")
    func flushBusy() throws {
        bench.kernel.events = [0: .fail(EAGAIN), 1: .fail(EAGAIN)]
        #expect(try bench.perform(.flush, on: store) == .done)
        #expect(bench.kernel.eventCount == 3)
    }

    @Test("goes through a bounce buffer when the kernel wants more alignment than it said")
    func eventMisaligned() throws {
        bench.kernel.events = [0: .fail(EINVAL)]
        #expect(try read() == .done)
        #expect(Set(bench.kernel.addresses).count == 2)
        bench.kernel.events = [2: .fail(EINVAL), 3: .fail(EINVAL)]
        #expect(try read() == .mediumError(goodByteCount: 0))
    }

    // MARK: A file that shrinks

    @Test("finds the end of a file that has shrunk", arguments: Medium.allCases)
    func shrunk(_ medium: Medium) throws {
        let folder = try medium.folder()
        let file = try folder.file(byteCount: 65536)
        let store = try bench.open(file)
        file.resize(to: 16384 + 700)
        let tail = TestMemory(pieces: [4096, 4096])
        #expect(try bench.perform(.read, at: 16384, tail, on: store) == .outOfRange)
        #expect(try bench.perform(.read, at: 32768, tail, on: store) == .outOfRange)
        #expect(try bench.perform(.read, at: 8192, tail, on: store) == .done)
    }

    @Test("takes a write of no bytes for a full file system")
    func writesNothing() throws {
        bench.kernel.events = [0: .cutTo(0)]
        #expect(try write() == .noSpace)
        #expect(bench.calls.count(.write) == 0)
    }
}
