// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import Glibc
import Kernel
import SCSI
import Testing

/// What an initiator is told of the errors of the world.
@Suite("A disk on a file tells its initiator")
struct SenseTests {
    typealias Answer = DiskBench.Answer

    /// UNRECOVERED READ ERROR and WRITE ERROR, at the first block of the command.
    static let readError = Answer.sense(0x3, 0x11, 0x00, at: 16)
    static let writeError = Answer.sense(0x3, 0x0C, 0x00, at: 32)
    /// SPACE ALLOCATION FAILED WRITE PROTECT.
    static let noSpace = Answer.sense(0x7, 0x27, 0x07)
    /// MEDIUM NOT PRESENT.
    static let gone = Answer.sense(0x2, 0x3A, 0x00)
    /// INTERNAL TARGET FAILURE.
    static let internalFailure = Answer.sense(0x4, 0x44, 0x00)

    // MARK: Transfers

    @Test(
        "what a read that failed means",
        arguments: [
            (EIO, readError), (EREMOTEIO, readError), (EBADF, readError), (EFAULT, readError),
            (ENODEV, gone), (ENXIO, gone), (ENOMEDIUM, gone), (ENOMEM, .busy),
            (EOPNOTSUPP, internalFailure),
        ] as [(Int32, Answer)])
    func readFails(_ code: Int32, _ answer: Answer) throws {
        let disk = try DiskBench()
        disk.bench.kernel.events = [0: .fail(code)]
        #expect(try disk.read() == answer)
        #expect(try disk.read() == .good(4096))
        // The same from io_submit.
        disk.bench.kernel.submissions = [disk.bench.kernel.submitCounts.count: .refuse(code)]
        #expect(try disk.read() == answer)
        #expect(try disk.read() == .good(4096))
    }

    @Test(
        "what a write that failed means",
        arguments: [
            (EIO, writeError), (ENOSPC, noSpace), (EDQUOT, noSpace), (EFBIG, noSpace),
            (ENODEV, gone), (ENXIO, gone), (ENOMEM, .busy),
        ] as [(Int32, Answer)])
    func writeFails(_ code: Int32, _ answer: Answer) throws {
        let disk = try DiskBench()
        disk.bench.kernel.events = [0: .fail(code)]
        #expect(try disk.write() == answer)
        #expect(try disk.write() == .good(4096))
        disk.bench.kernel.submissions = [disk.bench.kernel.submitCounts.count: .refuse(code)]
        #expect(try disk.write() == answer)
        #expect(try disk.write() == .good(4096))
    }

    @Test(
        "the same of what a worker thread did",
        arguments: [
            (EIO, readError, writeError), (ENOSPC, noSpace, noSpace), (ENODEV, gone, gone),
        ] as [(Int32, Answer, Answer)])
    func workerFails(_ code: Int32, _ read: Answer, _ write: Answer) throws {
        let disk = try DiskBench(.memory)
        disk.bench.calls.script(.read, .fail(code))
        disk.bench.calls.script(.write, .fail(code))
        #expect(try disk.read() == read)
        #expect(try disk.write() == write)
        #expect(try disk.read() == .good(4096))
        #expect(try disk.write() == .good(4096))
    }

    @Test("which block could not be read, and hands over the good ones before it")
    func badBlock() throws {
        let disk = try DiskBench()
        disk.bench.kernel.events = [0: .cutTo(1536), 1: .fail(EIO)]
        #expect(try disk.read() == .sense(0x3, 0x11, 0x00, at: 19, moved: 1536))
    }

    @Test("nothing of short transfers and calls to be made again", arguments: [EAGAIN, EINTR])
    func recovers(_ code: Int32) throws {
        let disk = try DiskBench()
        disk.bench.kernel.events = [0: .cutTo(512), 1: .cutTo(1000), 2: .fail(code)]
        #expect(try disk.read() == .good(4096))
        let next = disk.bench.kernel.eventCount
        disk.bench.kernel.events = [next: .cutTo(3584), next + 1: .fail(code)]
        #expect(try disk.write() == .good(4096))
        disk.bench.kernel.submissions = [disk.bench.kernel.submitCounts.count: .refuse(code)]
        #expect(try disk.read() == .good(4096))
    }

    @Test("that it is busy when not now lasts, and goes on afterwards")
    func busy() throws {
        let disk = try DiskBench()
        for event in 0..<500 { disk.bench.kernel.events[event] = .fail(EAGAIN) }
        #expect(try disk.read() == .busy)
        disk.bench.kernel.events = [:]
        #expect(try disk.read() == .good(4096))
    }

    @Test("that a block is out of range when the file has shrunk", arguments: Medium.allCases)
    func shrunk(_ medium: Medium) throws {
        let disk = try DiskBench(medium)
        disk.file.resize(to: 4096)
        #expect(try disk.read() == .sense(0x5, 0x21, 0x00))
        disk.file.resize(to: 10000)
        #expect(try disk.read() == .sense(0x5, 0x21, 0x00))
    }

    @Test("nothing of the host's AIO requests being used up", arguments: [EAGAIN, ENOSYS])
    func noRequests(_ code: Int32) throws {
        let disk = try DiskBench(setUpErrnos: [code, code, code])
        #expect(disk.bench.context.kernelRequestCount == 0)
        #expect(try disk.read() == .good(4096))
        #expect(try disk.write(forceUnitAccess: true) == .good(4096))
        #expect(try disk.synchronize() == .good())
    }

    // MARK: Durability

    @Test("that data may be lost, from the first flush that failed on", arguments: Medium.allCases)
    func flushFails(_ medium: Medium) throws {
        let disk = try DiskBench(medium)
        #expect(try disk.synchronize() == .good())
        disk.bench.kernel.events = [disk.bench.kernel.eventCount: .fail(EIO)]
        disk.bench.calls.script(.synchronize, number: 1, .fail(EIO))
        for _ in 0..<3 {
            let answer = try disk.synchronize()
            #expect(answer.sense == [0x3, 0x0C, 0x00])
        }
        #expect(try disk.read() == .good(4096))
        try disk.reopen()
        #expect(try disk.synchronize() == .good())
    }

    @Test("that a write with FUA was lost, and that the next flush promises nothing")
    func durableWriteFails() throws {
        let disk = try DiskBench()
        disk.bench.kernel.events = [0: .fail(EIO)]
        #expect(try disk.write(forceUnitAccess: true) == Self.writeError)
        #expect(try disk.synchronize().sense == [0x3, 0x0C, 0x00])
    }

    // MARK: Freeing

    @Test(
        "what a failure to free means",
        arguments: [(EIO, [0x3, 0x0C, 0x00]), (ENOSPC, [0x7, 0x27, 0x07])]
            as [(Int32, [UInt8])])
    func unmapFails(_ code: Int32, _ sense: [UInt8]) throws {
        let disk = try DiskBench()
        disk.bench.calls.script(.punchHole, .fail(code))
        #expect(try disk.unmap().sense == sense)
        #expect(try disk.unmap().status == 0)
        #expect(try disk.read() == .good(4096))
    }

    // MARK: Everything

    @Test("never NO SENSE, which Linux takes for success, whatever the errno")
    func anyErrno() throws {
        for code in Int32(1)...133 {
            let disk = try DiskBench()
            for command in [disk.read, { try disk.write() }, disk.synchronize] {
                let next = disk.bench.kernel.eventCount
                disk.bench.kernel.events = [
                    next: .fail(code), next + 1: .fail(code), next + 2: .fail(code),
                ]
                let answer = try command()
                let isSaid =
                    answer.status == 0x02 ? answer.sense.first ?? 0 != 0 : answer.status == 0x08
                #expect(isSaid || [EINTR, EAGAIN].contains(code), "errno \(code): \(answer)")
                disk.bench.kernel.events = [:]
            }
        }
    }
}
