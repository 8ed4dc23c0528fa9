// SPDX-License-Identifier: Apache-2.0

import FileBackstore
import LinuxIO
import SCSI

/// The disks of a service on files and block devices.
struct DiskShelf {
    private let bus: SCSIBus
    private let context: AIOContext
    private var shelf: [(configuration: LUNConfiguration, disk: Disk)] = []

    init(bus: SCSIBus, context: AIOContext) {
        self.bus = bus
        self.context = context
    }

    var disks: [Disk] { shelf.map(\.disk) }

    /// Opens what lies behind a logical unit and puts it at its place.
    ///
    /// A disk that stands at another place already, configured in the same way, is not opened
    /// again: the guest sees one disk over two paths.
    mutating func attach(_ configuration: LUNConfiguration) throws {
        let known = shelf.first { Self.isSame($0.configuration, configuration) }?.disk
        let disk = try known ?? open(configuration)
        guard let target = UInt8(exactly: configuration.target), let lun = LUN(configuration.lun),
            bus.attach(disk, target: target, lun: lun)
        else {
            throw ConfigurationError.repeatedLUN(
                target: configuration.target, lun: configuration.lun)
        }
        if known == nil { shelf.append((configuration, disk)) }
    }

    private static func isSame(_ one: LUNConfiguration, _ other: LUNConfiguration) -> Bool {
        canonicalPath(one.path) == canonicalPath(other.path)
            && one.isReadOnly == other.isReadOnly
            && one.blockSize == other.blockSize && one.disk == other.disk
    }

    private func open(_ configuration: LUNConfiguration) throws -> Disk {
        let store = try FileStore(
            path: configuration.path, readOnly: configuration.isReadOnly,
            blockSize: configuration.blockSize, context: context)
        let disk = Disk(
            store: store,
            identity: configuration.disk.identity(
                path: canonicalPath(configuration.path)),
            isReadOnly: configuration.isReadOnly,
            physicalBlockSize: configuration.disk.physicalBlockSize,
            isRemovable: configuration.disk.isRemovable)
        if let path = configuration.disk.reservationsPath {
            try disk.keepState(with: DiskStateFile(path: path))
        }
        return disk
    }
}
