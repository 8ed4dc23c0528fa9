// SPDX-License-Identifier: Apache-2.0

/// The mode parameters of a disk that initiators may change (SPC-4, SBC-3, Mode parameters).
struct DiskModes: BitwiseCopyable, Equatable {
    /// WCE: writes may end before they are on the medium.
    var isWriteCacheEnabled = true
    /// SWP: writes are refused.
    var isSoftwareWriteProtected = false
    /// D_SENSE: sense data have the descriptor format.
    var hasDescriptorSense = false

    var senseFormat: Sense.Format { hasDescriptorSense ? .descriptor : .fixed }

    /// The pages there are, without subpages.
    static let pageCodes: [UInt8] = [0x01, 0x08, 0x0A, 0x1C]

    /// The pages that have anything to change.
    static let changeablePageCodes: [UInt8] = [0x08, 0x0A]

    /// A page's bytes, header and all; nil when there is no such page.
    func page(_ code: UInt8) -> [UInt8]? {
        switch code {
        case 0x01:
            // Read-Write Error Recovery: reallocation is the medium's business, enabled.
            return [0x01, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        case 0x08:
            var page: [UInt8] = [0x08, 18] + [UInt8](repeating: 0, count: 18)
            page[2] = isWriteCacheEnabled ? 0x04 : 0
            return page
        case 0x0A:
            var page: [UInt8] = [0x0A, 10] + [UInt8](repeating: 0, count: 10)
            page[2] = hasDescriptorSense ? 0x04 : 0
            page[3] = 0x10  // commands may be reordered without restriction
            page[4] = isSoftwareWriteProtected ? 0x08 : 0
            page[8] = 0xFF  // busy timeout: no limit
            page[9] = 0xFF
            return page
        case 0x1C:
            // Informational Exceptions Control: none are reported.
            return [0x1C, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        default:
            return nil
        }
    }

    /// The bits of a page that initiators may change, in the layout of the page.
    static func changeableBits(_ code: UInt8) -> [UInt8]? {
        guard var page = DiskModes().page(code) else { return nil }
        for index in 2..<page.count { page[index] = 0 }
        switch code {
        case 0x08: page[2] = 0x04
        case 0x0A:
            page[2] = 0x04
            page[4] = 0x08
        default: break
        }
        return page
    }

    /// Takes a page over whose unchangeable bits are as they were.
    mutating func apply(_ page: [UInt8]) {
        switch page[0] & 0x3F {
        case 0x08:
            isWriteCacheEnabled = page[2] & 0x04 != 0
        case 0x0A:
            hasDescriptorSense = page[2] & 0x04 != 0
            isSoftwareWriteProtected = page[4] & 0x08 != 0
        default: break
        }
    }
}
