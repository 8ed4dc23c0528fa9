// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import Glibc
import Kernel
import LinuxIO
import SystemPackage
import Testing

/// A folder on a disk or in memory, removed with what is in it.
final class TestFolder {
    let path: String

    /// Makes the folder; `inMemory` on a tmpfs.
    init(inMemory: Bool = false) throws {
        let parent = inMemory ? "/dev/shm" : "/var/tmp"
        var template = Array("\(parent)/filestore-test-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer {
            unsafe $0.baseAddress.map { unsafe mkdtemp($0) } != nil
        }
        try #require(made)
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        guard let folder = unsafe opendir(path) else { return }
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) {
                unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            _ = unsafe unlink("\(path)/\(name)")
        }
        unsafe closedir(folder)
        _ = unsafe rmdir(path)
    }

    /// Makes a file that holds `byteAt` of every offset; nil makes a hole of that size.
    func file(
        _ name: String = "disk", byteCount: Int, byteAt: ((Int) -> UInt8)? = TestFile.pattern
    ) throws -> TestFile {
        let file = TestFile(path: "\(path)/\(name)")
        try file.make(byteCount: byteCount, byteAt: byteAt)
        return file
    }
}

/// A file that a test looks at past the store.
struct TestFile {
    let path: String

    /// A byte that differs from its neighbours, from those 512 and from those 4096 bytes away.
    static func pattern(_ offset: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: offset &* 7 &+ (offset >> 9) &* 13 &+ (offset >> 12) &* 31 &+ 1)
    }

    func make(byteCount: Int, byteAt: ((Int) -> UInt8)?) throws {
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        try #require(descriptor >= 0)
        let file = OwnedDescriptor(taking: descriptor)
        try #require(ftruncate(file.rawValue, off_t(byteCount)) == 0)
        guard let byteAt else { return }
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            for offset in 0..<byteCount { unsafe buffer[offset] = byteAt(offset) }
            count = byteCount
        }
        let written = unsafe bytes.withUnsafeBytes {
            unsafe pwrite(descriptor, $0.baseAddress, byteCount, 0)
        }
        try #require(written == byteCount)
        try #require(fsync(descriptor) == 0)
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    }

    /// The bytes in a range of the file, as the page cache has them.
    func bytes(_ range: Range<Int>) throws -> [UInt8] {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        try #require(descriptor >= 0)
        let file = OwnedDescriptor(taking: descriptor)
        var bytes = [UInt8](repeating: 0, count: range.count)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe pread(file.rawValue, $0.baseAddress, $0.count, off_t(range.lowerBound))
        }
        // What lies in the page cache would keep a direct write waiting.
        posix_fadvise(file.rawValue, 0, 0, POSIX_FADV_DONTNEED)
        return Array(bytes.prefix(count))
    }

    /// Makes the file longer or shorter.
    func resize(to byteCount: Int) {
        _ = unsafe truncate(path, off_t(byteCount))
    }

    /// Bytes that the file takes on its file system.
    var allocatedByteCount: Int {
        var status = stat()
        _ = unsafe stat(path, &status)
        return Int(status.st_blocks) * 512
    }
}

/// Memory as a guest would give it: in pieces of any length at any address.
@safe final class TestMemory {
    private let base: UnsafeMutableRawPointer
    private let list: IOVectorArray
    let pieceCount: Int
    let byteCount: Int

    /// Pieces of the given lengths, each `shift` bytes behind a multiple of 4096.
    init(pieces: [Int], shift: Int = 0, filledWith byte: UInt8 = 0xee) {
        let strides = pieces.map { ($0 + shift + 8191) / 4096 * 4096 }
        let total = strides.reduce(4096, +)
        unsafe base = .allocate(byteCount: total, alignment: 4096)
        unsafe memset(base, Int32(byte), total)
        var list = IOVectorArray(capacity: max(1, pieces.count))
        var offset = shift
        for (length, stride) in zip(pieces, strides) {
            unsafe list.append(base + offset, byteCount: length)
            offset += stride
        }
        self.list = list
        pieceCount = pieces.count
        byteCount = pieces.reduce(0, +)
    }

    deinit {
        unsafe base.deallocate()
    }

    var pieces: IOVectorSlice { list.all }

    /// What lies in the pieces.
    var bytes: [UInt8] {
        get {
            var bytes = [UInt8](repeating: 0, count: byteCount)
            var span = bytes.mutableSpan
            var raw = unsafe span.mutableBytes
            pieces.copyBytes(into: &raw)
            return bytes
        }
        set {
            unsafe pieces.store(bytes: newValue.span.bytes)
        }
    }
}

extension TestMemory {
    /// The first place that does not hold what it should.
    func firstDifference(from byteAt: (Int) -> UInt8) -> Int? {
        let bytes = bytes
        return bytes.indices.first { bytes[$0] != byteAt($0) }
    }
}

/// A store on a loop of its own, with a kernel that can be told to fail.
final class Bench: BlockRequestOwner {
    let loop: EventLoop
    let pool: WorkerPool
    let clock: ManualClock?
    let kernel = ScriptedAIOKernel()
    let calls = ScriptedBlockingCalls()
    let context: AIOContext
    private(set) var outcomes: [UInt64: BlockOutcome] = [:]
    private(set) var order: [UInt64] = []
    private var nextToken: UInt64 = 1
    /// The memory of every request, for as long as the kernel may touch it.
    private var memories: [TestMemory] = []
    /// Called with every outcome.
    var onEnd: (UInt64) -> Void = { _ in }

    init(
        requestCount: Int = 64, setUpErrnos: [Int32] = [], clock: ManualClock? = nil
    ) throws {
        loop = try clock.map { try EventLoop(clock: $0) } ?? EventLoop()
        self.clock = clock
        pool = try WorkerPool(name: "test", threadCount: 2)
        kernel.setUpErrnos = setUpErrnos
        context = try AIOContext(
            loop: loop, workers: pool, requestCount: requestCount, kernel: kernel, calls: calls)
    }

    deinit {
        pool.stopAndJoin()
    }

    func open(
        _ file: TestFile, readOnly: Bool = false, blockSize: Int? = nil
    ) throws(FileStoreError) -> FileStore {
        try FileStore(
            path: file.path, readOnly: readOnly, blockSize: blockSize, context: context)
    }

    func blockRequestEnded(token: UInt64, outcome: BlockOutcome) {
        #expect(outcomes[token] == nil, "a request ends once")
        outcomes[token] = outcome
        order.append(token)
        onEnd(token)
    }

    /// Queues a request.
    ///
    /// - Returns: its token.
    @discardableResult
    func submit(
        _ operation: BlockRequest.Operation, at offset: Int = 0, byteCount: Int? = nil,
        _ memory: TestMemory? = nil, to store: FileStore
    ) -> UInt64 {
        let token = nextToken
        nextToken += 1
        if let memory { memories.append(memory) }
        let request = BlockRequest(
            operation, offset: UInt64(offset), byteCount: byteCount ?? memory?.byteCount ?? 0,
            pieces: memory?.pieces)
        store.submit(request, owner: self, token: token)
        #expect(outcomes[token] == nil, "a request never ends within submit")
        return token
    }

    /// Turns the loop until every request that was submitted has ended.
    func finish() throws {
        try turn { outcomes.count == Int(nextToken) - 1 }
        memories = []
    }

    /// Turns the loop until something is so.
    func turn(until isSo: () -> Bool) throws {
        var turns = 0
        while !isSo() {
            turns += 1
            try #require(turns < 10_000, "a request does not end")
            clock?.advance(by: .milliseconds(1))
            try loop.turn(waitingAtMost: clock == nil ? .seconds(10) : .milliseconds(1))
        }
    }

    /// Queues a request and waits for its end.
    func perform(
        _ operation: BlockRequest.Operation, at offset: Int = 0, byteCount: Int? = nil,
        _ memory: TestMemory? = nil, on store: FileStore
    ) throws -> BlockOutcome? {
        let token = submit(operation, at: offset, byteCount: byteCount, memory, to: store)
        try finish()
        return outcomes[token]
    }
}
