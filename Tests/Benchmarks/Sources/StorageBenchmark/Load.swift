// SPDX-License-Identifier: Apache-2.0

import CDisk
import Driver
import FrontEnd
import Glibc

/// The front-end and the driver of one request queue, of virtio-scsi or of virtio-blk.
struct Load {
    let socket: String
    let layout: disk_layout
    /// The queue that carries requests.
    let queue: Int
    let writes: Bool
    let depth: UInt32
    let seconds: Double
    let byteCount: UInt64
    let polls: Bool
    let processIdentifier: Int

    init?(arguments: [String]) throws {
        guard arguments.count == 8, let depth = UInt32(arguments[3]),
            let seconds = Double(arguments[4]), let byteCount = UInt64(arguments[5]),
            let processIdentifier = Int(arguments[7])
        else { return nil }
        socket = arguments[0]
        layout = arguments[1] == "block" ? DISK_BLOCK : DISK_SCSI
        // A SCSI device has two others before its first request queue.
        queue = layout == DISK_BLOCK ? 0 : arguments[1] == "scsi-2" ? 3 : 2
        writes = arguments[2] == "write"
        self.depth = depth
        self.seconds = seconds
        self.byteCount = byteCount
        polls = arguments[6] == "poll"
        self.processIdentifier = processIdentifier
    }

    func run() throws {
        let memory = try TestMemory(byteCount: UInt64(DISK_MEMORY_SIZE))
        let (kick, call) = (try Signal(), try Signal())
        guard
            let load = disk_load_create(
                memory.rawDescriptor(ofRegion: 0), memory.regions[0].guestAddress, layout, writes,
                depth, byteCount, kick.rawDescriptor, call.rawDescriptor)
        else { throw LoadError.memory }
        let frontEnd = try FrontEnd(path: socket)
        try start(frontEnd, memory, kick, call)
        // The first commands meet unit attentions, and the back-end cold.
        var warmUp = disk_result()
        guard disk_load_run(load, 500_000_000, polls, &warmUp) else { throw LoadError.device }
        let before = Self.processorSeconds(of: processIdentifier)
        var result = disk_result()
        guard disk_load_run(load, UInt64(seconds * 1e9), polls, &result) else {
            throw LoadError.device
        }
        let used = Self.processorSeconds(of: processIdentifier) - before
        guard result.failure_count == 0 else { throw LoadError.requests(result.failure_count) }
        report(result, used: used, warmUp: warmUp)
        frontEnd.disconnect()
    }

    private func report(_ result: disk_result, used: Double, warmUp: disk_result) {
        let count = Double(result.request_count)
        let rate = Int(count / (Double(result.nanoseconds) / 1e9))
        let columns = [
            used / count * 1e6, Double(result.kick_count) / count,
            Double(result.call_count) / count,
        ].map { "\(($0 * 1000).rounded() / 1000)" }
        print(
            rate, columns.joined(separator: " "), result.request_count,
            result.request_count + warmUp.request_count)
    }

    private func start(
        _ frontEnd: FrontEnd, _ memory: TestMemory, _ kick: Signal, _ call: Signal
    ) throws {
        let offered = try frontEnd.ask(.getFeatures).integer
        let wanted =
            FeatureBit.version1 | FeatureBit.indirectDescriptors | FeatureBit.eventIndex
            | FeatureBit.protocolFeatures
        guard offered & wanted == wanted else { throw LoadError.features(offered) }
        let protocols = try frontEnd.ask(.getProtocolFeatures).integer
        try frontEnd.send(
            .setProtocolFeatures(
                protocols & (ProtocolFeatureBit.multiqueue | ProtocolFeatureBit.configuration)))
        try frontEnd.send(.setOwner)
        try frontEnd.send(.setFeatures(wanted))
        try frontEnd.send(.setMemoryTable(memory))
        let start = memory.regions[0].frontEndAddress
        try frontEnd.send(.setRingSize(queue, UInt32(DISK_RING_SIZE)))
        try frontEnd.send(.setRingBase(queue, 0))
        try frontEnd.send(
            .setRingAddresses(
                queue, descriptors: start + UInt64(DISK_DESCRIPTORS),
                used: start + UInt64(DISK_USED),
                available: start + UInt64(DISK_AVAILABLE)))
        try frontEnd.send(.setRingCall(queue, call.rawDescriptor))
        try frontEnd.send(.setRingKick(queue, kick.rawDescriptor))
        try frontEnd.send(.setRingEnable(queue, true))
        try frontEnd.synchronize()
    }

    /// Processor time of every thread of a process, in seconds.
    private static func processorSeconds(of process: Int) -> Double {
        guard let folder = opendir("/proc/\(process)/task") else { return 0 }
        defer { closedir(folder) }
        var total = 0.0
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            // The folder above has the main thread once more.
            guard !name.hasPrefix("."),
                let file = fopen("/proc/\(process)/task/\(name)/schedstat", "r")
            else { continue }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 128)
            guard fgets(&line, 128, file) != nil else { continue }
            // Nanoseconds on a processor; then time that was waited for one.
            total += Double(strtoull(line, nil, 10)) / 1e9
        }
        return total
    }
}

enum LoadError: Error {
    /// The guest's memory cannot be mapped.
    case memory
    /// The device does not offer what the driver needs.
    case features(UInt64)
    /// The device has stopped answering, or answered nonsense.
    case device
    /// So many requests have failed.
    case requests(UInt64)
}
